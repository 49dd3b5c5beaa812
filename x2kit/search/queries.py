"""Turn texts, images and regions into one query vector. Imports no torch.

    text         a str
    image        a Path, bytes, PIL image or array
    region       Region(image, (x, y, width, height))
    weighted     Weighted(part, weight); a negative weight moves away from the part

The query is the normalised sum of the unit vectors of the parts times their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from x2kit.errors import DataError
from x2kit.inference.results import Embeddings, Rectangle

if TYPE_CHECKING:
    from x2kit.inference.model import Model

_SMALLEST = 1e-4
"""Norm of a sum below which it has no direction."""


@dataclass(frozen=True)
class Region:
    """A region of an image: box (x, y, width, height) in pixels."""

    image: Any
    box: Rectangle


@dataclass(frozen=True)
class Weighted:
    """A part with its weight in the sum, negative to move away from it."""

    part: Any
    weight: float


class Query(NamedTuple):
    """An encoded query.

    Attributes:
        vector: [E] float32, unit length.
        text: the parts in words.
        sentences: texts of positive weight, with it; the matching head reads them.
    """

    vector: NDArray[np.float32]
    text: str
    sentences: list[tuple[str, float]]


def encode_query(model: Model, parts: Sequence[Any]) -> Query:
    """Encode the parts of a query.

    Raises: DataError without parts, for an unreadable image or an empty text, a weight that is not finite, or a sum
        without direction.
    """
    if not parts:
        raise DataError("a query needs a text, an image or a region")
    weighted = [part if isinstance(part, Weighted) else Weighted(part, 1.0) for part in parts]
    for each in weighted:
        if not np.isfinite(each.weight) or each.weight == 0:
            raise DataError(f"weight {each.weight} of {describe(each.part)}: use a number other than 0")
    total = sum((each.weight * _vector(model, each.part) for each in weighted), np.zeros(model.dim))
    length = float(np.linalg.norm(total))
    if length < _SMALLEST:
        raise DataError("the parts of the query cancel out; change their weights")
    sentences = [
        (each.part, each.weight) for each in weighted if isinstance(each.part, str) and each.weight > 0
    ]
    return Query((total / length).astype(np.float32), _in_words(weighted), sentences)


def _vector(model: Model, part: Any) -> NDArray[np.float64]:
    if isinstance(part, str):
        found = model.embed_texts([part], progress=False)
    elif isinstance(part, Region):
        found = model.embed_regions(_image(part.image), [part.box])
    else:
        found = model.embed_images([_image(part)], progress=False)
    for error in found.errors:
        raise DataError(f"query {describe(part)!r}: {error.message}")
    return np.asarray(_only(found), dtype=np.float64)


def _image(image: Any) -> Any:
    return str(image) if isinstance(image, Path) else image


def _only(found: Embeddings) -> NDArray[Any]:
    (vector,) = found.vectors
    return vector  # type: ignore[no-any-return]


def describe(part: Any) -> str:
    """Return a part in words."""
    if isinstance(part, str):
        return part
    if isinstance(part, Region):
        x, y, width, height = part.box
        return f"region {x:g},{y:g},{width:g},{height:g} of {describe(part.image)}"
    return f"image {part.name}" if isinstance(part, Path) else "an image"


def _in_words(parts: Sequence[Weighted]) -> str:
    words = []
    for number, each in enumerate(parts):
        sign = "− " if each.weight < 0 else "+ " if number else ""
        factor = "" if abs(each.weight) == 1 else f"{abs(each.weight):g} × "
        words.append(f"{sign}{factor}{describe(each.part)}")
    return " ".join(words)
