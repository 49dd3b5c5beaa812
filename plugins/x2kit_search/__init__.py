"""Register vector indexes: exact search without a library."""

from __future__ import annotations

from x2kit.plugin import Registry, hookimpl
from x2kit_search.config import Exact

__all__ = ["Exact", "x2kit_register"]


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the indexes."""
    registry.add(Exact)
