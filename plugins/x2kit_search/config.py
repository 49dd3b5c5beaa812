"""Settings of the indexes. Imports no library."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from x2kit.plugin import IndexConfig, SettingError

if TYPE_CHECKING:
    from x2kit.plugin import Index, IndexSpec


class Exact(IndexConfig):
    """Compare each query with every vector of a local table (SQLite and torch; no extra).

    Every hit is right, and filters cost nothing; the time of a search grows with the table.
    """

    def create(self, location: str, spec: IndexSpec) -> Index:
        """Create an empty table in a local folder."""
        from x2kit_search.exact import ExactIndex

        return ExactIndex.create(location, spec)

    def open(self, location: str) -> Index:
        """Open the table in a local folder."""
        from x2kit_search.exact import ExactIndex

        return ExactIndex.open(location)


def _require(extra: str, *modules: str) -> None:
    for module in modules:
        if find_spec(module) is None:
            raise SettingError(
                "class_path", f'needs {module}, which is not installed: pip install "x2kit[{extra}]"'
            )
