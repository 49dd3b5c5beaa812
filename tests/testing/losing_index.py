"""An index that loses rows; other processes import it, so it imports little."""

from __future__ import annotations

from x2kit_search import Exact
from x2kit_search.exact import ExactIndex

from x2kit.plugin import Index, Rows


class LosesTheTail(Exact):
    """A killed or closed writer loses the last row of each batch."""

    def open(self, location: str) -> Index:
        return LosesTheTailIndex.open(location)


class LosesTheTailIndex(ExactIndex):
    def upsert(self, rows: Rows) -> None:
        super().upsert(rows)
        last = rows.ids[-1].replace("'", "''")
        if rows.ids[0].startswith(("kill", "other")):
            self.delete(f"id = '{last}'")
