"""An index under test: tables in temporary folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from x2kit.plugin.components import IndexConfig
from x2kit.plugin.indexes import Index, IndexSpec, Rows
from x2kit.testing.indexes.rows import SPEC
from x2kit.testing.subjects import Subject

ROWS = 240


class IndexSubject(Subject):
    """An index under test.

    Args:
        component: settings of an index.
        rows: number of rows of a table that is large enough for an approximate index.
    """

    component: IndexConfig

    def __init__(self, component: IndexConfig, rows: int = ROWS) -> None:
        super().__init__(component)
        self.rows = rows

    @contextmanager
    def table(self, *written: Rows, spec: IndexSpec = SPEC) -> Iterator[tuple[Index, str]]:
        """Create a table with these rows. Yields: the open table and its location."""
        with TemporaryDirectory(prefix="x2kit-index-") as place:
            location = str(Path(place) / "index 1")
            with self.component.create(location, spec) as index:
                for rows in written:
                    index.upsert(rows)
                yield index, location
