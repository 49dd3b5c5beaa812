"""Count skipped broken records by stream and reason, and stop a run with too many. Imports torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from x2kit.data.pipeline.batch import Batch, BrokenRecord
from x2kit.errors import DataError, Reason

LEAST_RECORDS = 1000
"""The share is computed over at least this many, so that one broken record in step 1 does not stop a run."""
SAMPLES = 100
"""Broken records kept for each stream and reason."""
SHOWN = 3
"""Kept records that a summary shows."""


def describe_broken(fault: BrokenRecord) -> str:
    """Format file and line (if known), id and message of a broken record in one line."""
    if fault.place is None:
        return f"{fault.record}: {fault.message}"
    line = fault.place.line or fault.place.offset
    where = fault.place.file if line is None else f"{fault.place.file}:{line}"
    return f"{where}: {fault.record}: {fault.message.removeprefix(f'{where}: ')}"


class BadRecords:
    """Counts of broken records by stream and reason, with some records of each.

    Attributes:
        seen: records drawn.
        counts: broken records by stream and reason.

    Args:
        samples: broken records kept for each stream and reason.
    """

    def __init__(self, samples: int = SAMPLES) -> None:
        self.seen = 0
        self.counts: Counter[tuple[str, Reason]] = Counter()
        self._samples = samples
        self._kept: dict[tuple[str, Reason], dict[str, BrokenRecord]] = {}

    def add(self, batch: Batch) -> list[BrokenRecord]:
        """Count the records of a batch. Returns as `count`."""
        return self.count(batch.drawn, batch.broken)

    def count(self, drawn: int, faults: Iterable[BrokenRecord]) -> list[BrokenRecord]:
        """Count drawn records and the broken ones among them. Returns the broken records newly kept."""
        self.seen += drawn
        new = []
        for fault in faults:
            self.counts[fault.stream, fault.reason] += 1
            if self.keep(fault):
                new.append(fault)
        return new

    def keep(self, fault: BrokenRecord) -> bool:
        """Keep a broken record without counting it; False if it or enough of its kind are kept already."""
        kept = self._kept.setdefault((fault.stream, fault.reason), {})
        if len(kept) >= self._samples or fault.record in kept:
            return False
        kept[fault.record] = fault
        return True

    @property
    def total(self) -> int:
        """Number of broken records; one drawn in several epochs counts in each."""
        return self.counts.total()

    @property
    def share(self) -> float:
        """Broken records as a share of all drawn; 0 before the first batch."""
        return self.total / self.seen if self.seen else 0.0

    def kept(self, stream: str, reason: Reason) -> list[BrokenRecord]:
        """Return the records kept for one stream and reason."""
        return list(self._kept.get((stream, reason), {}).values())

    def state(self) -> dict[str, Any]:
        """Return the counts as plain values, for a checkpoint."""
        counts = [
            {"stream": stream, "reason": reason.value, "count": count}
            for (stream, reason), count in self.counts.most_common()
        ]
        return {"seen": self.seen, "broken": self.total, "counts": counts}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the counts that `state` returned."""
        self.seen = state["seen"]
        self.counts = Counter(
            {(entry["stream"], Reason(entry["reason"])): entry["count"] for entry in state["counts"]}
        )

    def summary(self) -> str:
        """Format counts by stream and reason, most frequent first, with a few records of each; empty without any."""
        if not self.total:
            return ""
        lines = [f"{self.total} of {self.seen} records are broken ({self.share:.2%})"]
        for (stream, reason), count in self.counts.most_common():
            lines.append(f"  {count} in stream {stream}: {reason}")
            lines.extend(f"    {describe_broken(fault)}" for fault in self.kept(stream, reason)[:SHOWN])
        return "\n".join(lines)

    def check(self, max_share: float) -> None:
        """Raise DataError with the summary if more than `max_share` of at least 1000 records is broken."""
        if self.total > max_share * max(self.seen, LEAST_RECORDS):
            raise DataError(
                f"more records are broken than data.max_bad_share = {max_share:g} allows\n{self.summary()}\n"
                "  fix or remove these records, or raise data.max_bad_share; x2kit data check lists all of them"
            )
