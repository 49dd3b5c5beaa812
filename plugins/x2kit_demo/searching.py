"""Search an index from the page. Hits carry ids of images, never paths to open."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

import x2kit
from x2kit.plugin import DataError
from x2kit_demo.examples import Example
from x2kit_demo.pictures import Opener, Pictures

Line = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)]


class Search(BaseModel):
    """Query of the index: a text, an image or both, minus texts.

    Attributes:
        text: in any language of the model.
        image: id of an image; empty for none.
        minus: texts that hits should not resemble.
        where: SQL condition over the columns.
        k: number of hits.
        rerank: first hits that the matching head orders; 0 for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Line = ""
    image: str = Field("", max_length=64)
    minus: list[Line] = Field([], max_length=10)
    where: Line = ""
    k: int = Field(24, ge=1, le=200)
    rerank: int = Field(0, ge=0, le=200)


def search(index: Any, wanted: Search, picture: Opener | None, pictures: Pictures) -> dict[str, Any]:
    """Search the index; hits are values of JSON with the id of their image.

    Raises: DataError for a query without text and image; X2KitError for an invalid `where`.
    """
    parts: list[Any] = [wanted.text] if wanted.text else []
    parts += [picture()] if picture else []
    if not parts:
        raise DataError("a search needs a text or an image")
    parts += [x2kit.Weighted(text, -1.0) for text in wanted.minus if text]
    found = index.query(*parts, k=wanted.k, where=wanted.where, rerank=wanted.rerank)
    hits = [hit.to_dict() | {"image": _add(hit, index, pictures)} for hit in found.hits]
    return {"hits": hits, "notes": found.notes}


def _add(hit: Any, index: Any, pictures: Pictures) -> str:
    return pictures.add(f"hit {hit.path} {hit.columns.get('frame')}", partial(index.open, hit))


def index_examples(index: Any, count: int) -> Iterator[Example]:
    """Yield some images of the index: the nearest to a fixed vector."""
    width = index.table.spec.dim
    (hits,) = index.search(np.full((1, width), width**-0.5, dtype=np.float32), count)
    for hit in hits:
        yield Example(hit.path.rpartition("/")[2], partial(index.open, hit))
