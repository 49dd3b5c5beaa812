"""Results of a model as frozen dataclasses; field names are the keys of their JSON. Imports no torch.

I images, T texts, E embedding width. Boxes are (x, y, width, height) with the left upper corner first.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from x2kit.errors import X2KitError

if TYPE_CHECKING:
    from PIL import Image

Rectangle: TypeAlias = tuple[float, float, float, float]
"""x, y, width, height; x and y are the left upper corner."""
HIDDEN = {"json": False}
"""Metadata of fields that are not part of the JSON."""
HTML_ROWS = 20
"""Maximum number of rows of a table in a notebook."""


@dataclass(frozen=True)
class Result:
    """Base class of results: JSON and a table for notebooks."""

    def to_dict(self) -> dict[str, Any]:
        """Convert to values of JSON; arrays become nested lists, NaN becomes None."""
        return {
            each.name: _plain(getattr(self, each.name))
            for each in fields(self)
            if each.metadata.get("json", True)
        }

    def _repr_html_(self) -> str:
        return f"{self._image_html()}{_table([self.to_dict()])}"

    def _image_html(self) -> str:
        """Return the drawing as an inline image; empty if there is none or its image is unknown."""
        draw = getattr(self, "draw", None)
        if draw is None or getattr(self, "source", None) is None:
            return ""
        buffer = io.BytesIO()
        draw().save(buffer, format="PNG")
        return f'<img src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


@dataclass(frozen=True)
class InputError(Result):
    """An input that could not be read.

    Attributes:
        index: position among the inputs.
        name: its path, or for example "images[3]".
        message: reason.
    """

    index: int
    name: str
    message: str


@dataclass(frozen=True, eq=False, repr=False)
class Embeddings(Result):
    """Unit vectors of images, regions or texts, in the order of the inputs; `numpy.asarray` returns the vectors.

    Attributes:
        vectors: [n, E] float32 or float16; NaN in the rows of unreadable inputs.
        names: n paths, texts or names such as "images[3]".
        errors: the unreadable inputs.
    """

    vectors: NDArray[Any]
    names: list[str]
    errors: list[InputError] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.vectors)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.vectors, dtype=dtype) if copy else np.asarray(self.vectors, dtype=dtype)

    def __repr__(self) -> str:
        count, width = self.vectors.shape
        return f"Embeddings({count} x {width}, {self.vectors.dtype}, {len(self.errors)} errors)"

    def _repr_html_(self) -> str:
        unreadable = f"<p>unreadable:</p>{_table([e.to_dict() for e in self.errors])}" if self.errors else ""
        return f"<p>{html.escape(repr(self))}</p>{unreadable}"


@dataclass(frozen=True)
class Match(Result):
    """An image-text pair.

    Attributes:
        probability: of a match, from the matching head.
        similarity: cosine of the embeddings; None for a model without contrastive head.
    """

    image: str
    text: str
    probability: float
    similarity: float | None


@dataclass(frozen=True)
class Ranked(Result):
    """A candidate of a ranking.

    Attributes:
        index: position among the candidates.
        name: its path, text, or name such as "images[3]".
        similarity: cosine of the embeddings.
        probability: of a match, from the matching head; None if it was not re-ranked.
    """

    index: int
    name: str
    similarity: float
    probability: float | None


@dataclass(frozen=True)
class Ranking(Result):
    """Candidates of a query, best first; `errors` are the unreadable ones."""

    query: str
    items: list[Ranked]
    errors: list[InputError] = field(default_factory=list)

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.query)}</p>{_table([item.to_dict() for item in self.items])}"


@dataclass(frozen=True)
class Scored(Result):
    """A label or answer with its share of the probability among the candidates.

    Attributes:
        text: label, answer or description.
        probability: in [0, 1]; among the candidates given.
        log_likelihood: of the text in nats; None if it was not generated.
    """

    text: str
    probability: float
    log_likelihood: float | None = None


@dataclass(frozen=True)
class Classification(Result):
    """Labels of an image, best first."""

    image: str
    labels: list[Scored]

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.image)}</p>{_table([label.to_dict() for label in self.labels])}"


@dataclass(frozen=True)
class Answer(Result):
    """Answers to a question about an image, best first."""

    image: str
    question: str
    candidates: list[Scored]

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.question)}</p>{_table([each.to_dict() for each in self.candidates])}"


@dataclass(frozen=True)
class Description(Result):
    """Descriptions of an image, best first; `prompt` is their given beginning."""

    image: str
    prompt: str | None
    candidates: list[Scored]

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.image)}</p>{_table([each.to_dict() for each in self.candidates])}"


@dataclass(frozen=True)
class Box(Result):
    """A box in an image.

    Attributes:
        pixels: x, y, width, height of the original image.
        relative: the same as shares of the image's sides.
        probability: that the text describes this region, from the matching head.
    """

    pixels: Rectangle
    relative: Rectangle
    probability: float


@dataclass(frozen=True)
class Location(Result):
    """Boxes of a text in an image, best first.

    Attributes:
        method: how the boxes were found.
        source: the image as it was given, for `draw`; not part of the JSON.
    """

    image: str
    text: str
    boxes: list[Box]
    method: str = ""
    source: Any = field(default=None, repr=False, compare=False, metadata=HIDDEN)

    def draw(self, image: Image.Image | None = None) -> Image.Image:
        """Draw the boxes with their probabilities on the image; by default on the one that was given."""
        from x2kit.inference.drawing import draw_boxes

        opened = self.source.open() if image is None else image
        return draw_boxes(opened, [box.pixels for box in self.boxes], [box.probability for box in self.boxes])

    def _repr_html_(self) -> str:
        return (
            f"{self._image_html()}<p>{html.escape(self.text)}</p>{_table([b.to_dict() for b in self.boxes])}"
        )


@dataclass(frozen=True, eq=False, repr=False)
class WordMap(Result):
    """Heat map [h, w] in [0, 1] of one word."""

    word: str
    heat: NDArray[np.float32]

    def __repr__(self) -> str:
        return f"WordMap({self.word!r}, {self.heat.shape[1]} x {self.heat.shape[0]})"


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Result):
    """Heat maps of a text in an image: where the image raises the matching logit.

    Attributes:
        heat: [h, w] float32 in [0, 1].
        words: maps of the single words.
        box: box of the map.
        method: how the maps were computed.
        source: the image as it was given, for `overlay`; not part of the JSON.
    """

    image: str
    text: str
    heat: NDArray[np.float32]
    words: list[WordMap]
    box: Box
    method: str
    source: Any = field(default=None, metadata=HIDDEN)

    def overlay(self, image: Image.Image | None = None, word: str | int | None = None) -> Image.Image:
        """Draw the map over the image; by default over the one that was given.

        Args:
            image: any PIL image of these proportions.
            word: draw the map of this word, or of the word at this position, instead of the text's.
        Raises: X2KitError for a word without a map.
        """
        from x2kit.inference.drawing import draw_heat

        heat = self.heat if word is None else self._word(word).heat
        return draw_heat(self.source.open() if image is None else image, heat)

    def _word(self, word: str | int) -> WordMap:
        if isinstance(word, int) and -len(self.words) <= word < len(self.words):
            return self.words[word]
        for each in self.words:
            if each.word == word:
                return each
        known = ", ".join(each.word for each in self.words)
        raise X2KitError(f"no map of the word {word!r}; the words of this text are: {known}")

    def draw(self, image: Image.Image | None = None) -> Image.Image:
        """Draw the map of the text and its box over the image."""
        from x2kit.inference.drawing import draw_boxes

        return draw_boxes(self.overlay(image), [self.box.pixels])

    def __repr__(self) -> str:
        size = f"{self.heat.shape[1]} x {self.heat.shape[0]}"
        words = ", ".join(each.word for each in self.words)
        return (
            f"Explanation({self.image!r}, {self.text!r}, {size}, words: {words}, {self.method}, {self.box})"
        )

    def _repr_html_(self) -> str:
        return f"{self._image_html()}<p>{html.escape(self.text)} ({html.escape(self.method)})</p>"


def _plain(value: Any) -> Any:
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and value != value else value


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """Format rows with equal keys as an HTML table, at most `HTML_ROWS`."""
    if not rows:
        return "<p>none</p>"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(_cell(cell))}</td>' for cell in row.values())}</tr>"
        for row in rows[:HTML_ROWS]
    )
    more = f"<p>and {len(rows) - HTML_ROWS} more</p>" if len(rows) > HTML_ROWS else ""
    return f"<table><tr>{head}</tr>{body}</table>{more}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)
