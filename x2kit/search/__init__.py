"""Search images and videos by text, image or region: index folders, query the index. Torch is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from x2kit.search.index import SearchIndex, open_index
    from x2kit.search.indexing import IndexOptions, index_folders
    from x2kit.search.queries import Region, Weighted
    from x2kit.search.results import IndexReport, SearchHit, SearchResults

_LAZY = {
    "IndexOptions": "indexing",
    "IndexReport": "results",
    "Region": "queries",
    "SearchHit": "results",
    "SearchIndex": "index",
    "SearchResults": "results",
    "Weighted": "queries",
    "index_folders": "indexing",
    "open_index": "index",
}
__all__ = [
    "IndexOptions",
    "IndexReport",
    "Region",
    "SearchHit",
    "SearchIndex",
    "SearchResults",
    "Weighted",
    "index_folders",
    "open_index",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"x2kit.search.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
