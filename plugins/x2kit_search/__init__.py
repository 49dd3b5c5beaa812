"""Register vector indexes: exact search without a library, FAISS, LanceDB and Qdrant."""

from __future__ import annotations

from x2kit.plugin import Registry, hookimpl
from x2kit_search.config import Exact, Faiss, LanceDB, Qdrant

__all__ = ["Exact", "Faiss", "LanceDB", "Qdrant", "x2kit_register"]


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the indexes."""
    for component in (Exact, Faiss, LanceDB, Qdrant):
        registry.add(component)
