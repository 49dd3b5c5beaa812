"""Results of indexing and of a query: JSON, a page with thumbnails. Imports no torch."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from x2kit.errors import DataError
from x2kit.evaluation.report.markup import Markup, join, tag
from x2kit.evaluation.report.page import Section, draw_page
from x2kit.inference.results import HIDDEN, Box, InputError, Result

_SIDE = 320
"""Pixels of a thumbnail's longer side."""
_QUALITY = 82

Opener = Callable[["SearchHit"], Image.Image]
"""Decodes the image of a hit. Raises DataError if it cannot be read or may not be opened."""


@dataclass(frozen=True)
class SearchHit(Result):
    """A file, frame or region that a query found.

    Attributes:
        path: of the file.
        similarity: cosine of query and file, a weighted sum for several parts.
        probability: of a match with the text, from the matching head; None if it was not re-ranked.
        box: where the text was located, or the region that was found; None without.
        columns: other columns of the row.
    """

    path: str
    similarity: float
    probability: float | None = None
    box: Box | None = None
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchResults(Result):
    """Hits of a query, best first.

    Attributes:
        query: its parts as text.
        hits: best first.
        notes: problems with single hits, such as a file that could not be opened for re-ranking.
    """

    query: str
    hits: list[SearchHit]
    notes: list[str] = field(default_factory=list)
    opener: Opener | None = field(default=None, repr=False, compare=False, metadata=HIDDEN)

    def __len__(self) -> int:
        return len(self.hits)

    def to_html(self, facts: str = "") -> str:
        """Draw a page of its own with thumbnails; `facts` is a line below the title. Images that fail are named."""
        shown = f"{len(self.hits)} hits, best first"
        section = Section("hits", "Hits", shown, self._cards())
        return draw_page(self.query, "", facts, [section])

    def _repr_html_(self) -> str:
        return str(self._cards())

    def _cards(self) -> Markup:
        cards = [_card(number, hit, self.opener) for number, hit in enumerate(self.hits, 1)]
        notes = tag("ul", [tag("li", note) for note in self.notes]) if self.notes else None
        return join(tag("div", cards, class_="scenes"), notes)


@dataclass(frozen=True)
class IndexReport(Result):
    """Result of `index_folders`, in files.

    Attributes:
        added: new files; `copied` of them have the content of another file and were not encoded.
        updated: files with changed content.
        renamed: files with a new path, not encoded.
        gone: files that no longer exist; their rows are marked and found no more.
        unchanged: files as they were.
        broken: files that cannot be indexed.
        seconds: duration.
        skipped_columns: metadata that the table has no column for.
        others: files of other kinds.
    """

    added: int = 0
    updated: int = 0
    renamed: int = 0
    gone: int = 0
    unchanged: int = 0
    broken: list[InputError] = field(default_factory=list)
    seconds: float = 0.0
    copied: int = 0
    skipped_columns: list[str] = field(default_factory=list)
    others: int = 0

    def __str__(self) -> str:
        counts = {
            "added": self.added,
            "updated": self.updated,
            "renamed": self.renamed,
            "gone": self.gone,
            "unchanged": self.unchanged,
            "broken": len(self.broken),
        }
        return ", ".join(f"{count} {name}" for name, count in counts.items()) + f" in {self.seconds:.1f} s"


def thumbnail(image: Image.Image, side: int = _SIDE) -> bytes:
    """Return the image as JPEG, its longer side at most `side` pixels."""
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    packed = io.BytesIO()
    small.save(packed, "JPEG", quality=_QUALITY)
    return packed.getvalue()


def box_of(text: str | None, size: tuple[int, int] | None = None) -> Box | None:
    """Read the column `box`, x,y,width,height in pixels; relative to `size` if known. None without a box."""
    if not text:
        return None
    x, y, width, height = map(float, text.split(","))
    across, down = size or (0, 0)
    relative = (x / across, y / down, width / across, height / down) if size else (0.0, 0.0, 0.0, 0.0)
    return Box((x, y, width, height), relative, 1.0)


def _card(number: int, hit: SearchHit, opener: Opener | None) -> Markup:
    scores = f"{hit.similarity:.3f}"
    if hit.probability is not None:
        scores += f", match {100 * hit.probability:.0f}\u00a0%"
    return tag(
        "figure",
        tag("div", _picture(hit, opener), class_="stage"),
        tag("figcaption", tag("b", f"{number}. "), tag("bdi", name(hit)), tag("br"), scores),
        class_="scene",
    )


def name(hit: SearchHit) -> str:
    """Return the path of a hit, with its frame; control characters escaped."""
    frame = hit.columns.get("frame")
    path = hit.path if frame is None else f"{hit.path} frame {frame}"
    return printable(path)


def printable(text: str) -> str:
    """Return a text on one line: control characters, such as newlines in names, are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _picture(hit: SearchHit, opener: Opener | None) -> Markup:
    if opener is None:
        return tag("p", "no image", class_="note")
    try:
        image = opener(hit)
    except DataError as error:
        return tag("p", str(error), class_="note")
    encoded = base64.b64encode(thumbnail(image)).decode("ascii")
    picture = tag("img", src=f"data:image/jpeg;base64,{encoded}", alt=name(hit))
    return picture if hit.box is None else join(picture, _drawn(hit.box.pixels, image.size))


def _drawn(box: Sequence[float], size: tuple[int, int]) -> Markup:
    x, y, width, height = box
    rects = [tag("rect", x=x, y=y, width=width, height=height, class_=kind) for kind in ("halo", "guess")]
    return tag("svg", rects, viewBox=f"0 0 {size[0]} {size[1]}", preserveAspectRatio="none")
