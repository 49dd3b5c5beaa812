"""Counting of broken records: skipped, never silently. Imports torch through the batch's layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from x2kit.data.pipeline.batch import Batch, BrokenRecord
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Place

LEAST_RECORDS = 1000
"""The share is taken of no fewer, so that one broken record in the first step does not end a run."""
SAMPLES = 100
"""BrokenRecord records that are kept for each stream and reason."""
SHOWN = 3
"""Those of them that a summary shows."""


def broken(stream: str, record: str, error: DataError, place: Place | None = None) -> BrokenRecord:
    """What a batch says of a record that was skipped; an id that the error names comes before `record`."""
    return BrokenRecord(stream, error.record or record, error.reason, str(error), place)


def describe_broken(fault: BrokenRecord) -> str:
    """File and line, id and message of a broken record, as far as they are known, in one line."""
    if fault.place is None:
        return f"{fault.record}: {fault.message}"
    line = fault.place.line or fault.place.offset
    where = fault.place.file if line is None else f"{fault.place.file}:{line}"
    return f"{where}: {fault.record}: {fault.message.removeprefix(f'{where}: ')}"


class BadRecords:
    """Counts broken records by stream and reason, and keeps some of each.

    Args:
        samples: broken records that are kept for each stream and reason.
    """

    def __init__(self, samples: int = SAMPLES) -> None:
        self.seen = 0
        self.counts: Counter[tuple[str, Reason]] = Counter()
        self._samples = samples
        self._kept: dict[tuple[str, Reason], dict[str, BrokenRecord]] = {}

    def add(self, batch: Batch) -> list[BrokenRecord]:
        """Count the records of a batch. Returns the broken ones that are new among those kept."""
        return self.count(batch.drawn, batch.broken)

    def count(self, drawn: int, faults: Iterable[BrokenRecord]) -> list[BrokenRecord]:
        """Count records: how many were drawn, and the broken ones among them. Returns as `add` does."""
        self.seen += drawn
        new = []
        for fault in faults:
            self.counts[fault.stream, fault.reason] += 1
            if self.keep(fault):
                new.append(fault)
        return new

    def keep(self, fault: BrokenRecord) -> bool:
        """Keep a broken record without counting it; False if it is kept already or enough of its kind are."""
        kept = self._kept.setdefault((fault.stream, fault.reason), {})
        if len(kept) >= self._samples or fault.record in kept:
            return False
        kept[fault.record] = fault
        return True

    @property
    def total(self) -> int:
        """BrokenRecord records so far; one that is drawn again in a later epoch counts again."""
        return self.counts.total()

    @property
    def share(self) -> float:
        """BrokenRecord records as a share of all that were drawn; 0 before the first batch."""
        return self.total / self.seen if self.seen else 0.0

    def kept(self, stream: str, reason: Reason) -> list[BrokenRecord]:
        """The broken records that are kept of one stream and reason."""
        return list(self._kept.get((stream, reason), {}).values())

    def state(self) -> dict[str, Any]:
        """The counts as plain values, for a checkpoint and for readers."""
        counts = [
            {"stream": stream, "reason": reason.value, "count": count}
            for (stream, reason), count in self.counts.most_common()
        ]
        return {"seen": self.seen, "broken": self.total, "counts": counts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on counting from what `state` gave."""
        self.seen = state["seen"]
        self.counts = Counter(
            {(entry["stream"], Reason(entry["reason"])): entry["count"] for entry in state["counts"]}
        )

    def summary(self) -> str:
        """The counts by stream and reason, most frequent first, with a few records of each; or nothing."""
        if not self.total:
            return ""
        lines = [f"{self.total} of {self.seen} records are broken ({self.share:.2%})"]
        for (stream, reason), count in self.counts.most_common():
            lines.append(f"  {count} in stream {stream}: {reason}")
            lines.extend(f"    {describe_broken(fault)}" for fault in self.kept(stream, reason)[:SHOWN])
        return "\n".join(lines)

    def check(self, max_share: float) -> None:
        """Raise DataError with the summary if more than this share is broken, of at least 1000 records."""
        if self.total > max_share * max(self.seen, LEAST_RECORDS):
            raise DataError(
                f"more records are broken than data.max_bad_share = {max_share:g} allows\n{self.summary()}\n"
                "  mend or leave out these records, or raise data.max_bad_share; x2kit data check finds all of them"
            )
