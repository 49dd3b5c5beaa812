"""Register vector indexes: exact search without a library, FAISS and LanceDB."""

from __future__ import annotations

from x2kit.plugin import Registry, hookimpl
from x2kit_search.config import Exact, Faiss, LanceDB

__all__ = ["Exact", "Faiss", "LanceDB", "x2kit_register"]


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the indexes."""
    for component in (Exact, Faiss, LanceDB):
        registry.add(component)
