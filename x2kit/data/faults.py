"""Counting of broken records: skipped, never silently. Imports torch through the batch's layout."""

from __future__ import annotations

import re
from collections import Counter

from x2kit.data.batch import Batch, Broken
from x2kit.errors import DataError

_NUMBER = re.compile(r"\d+")
LEAST_RECORDS = 1000
"""The share is taken of no fewer, so that one broken record in the first step does not end a run."""


def broken(stream: str, record: str, error: DataError) -> Broken:
    """What a batch says of a record that was skipped."""
    message = str(error)
    return Broken(stream, record, error.reason or _NUMBER.sub("#", message), message)


class BadRecords:
    """Counts broken records by stream and reason.

    Args:
        samples: broken records that the summary shows for each reason.
    """

    def __init__(self, samples: int = 3) -> None:
        self.seen = 0
        self.counts: Counter[tuple[str, str]] = Counter()
        self._samples = samples
        self._shown: dict[tuple[str, str], list[Broken]] = {}

    def add(self, batch: Batch) -> None:
        """Count the records of a batch."""
        self.seen += sum(map(len, batch.records.values())) + len(batch.broken)
        for fault in batch.broken:
            key = (fault.stream, fault.reason)
            self.counts[key] += 1
            shown = self._shown.setdefault(key, [])
            if len(shown) < self._samples and all(fault.record != other.record for other in shown):
                shown.append(fault)

    @property
    def total(self) -> int:
        """Broken records so far; one that is drawn again in a later epoch counts again."""
        return self.counts.total()

    @property
    def share(self) -> float:
        """Broken records as a share of all that were drawn; 0 before the first batch."""
        return self.total / self.seen if self.seen else 0.0

    def summary(self) -> str:
        """The counts by stream and reason, most frequent first, with a few records of each; or nothing."""
        if not self.total:
            return ""
        lines = [f"{self.total} of {self.seen} records are broken ({self.share:.2%})"]
        for (stream, reason), count in self.counts.most_common():
            lines.append(f"  {count} in stream {stream}: {reason}")
            lines.extend(f"    {fault.record}: {fault.message}" for fault in self._shown[stream, reason])
        return "\n".join(lines)

    def check(self, max_share: float) -> None:
        """Raise DataError with the summary if more than this share is broken, of at least 1000 records."""
        if self.total > max_share * max(self.seen, LEAST_RECORDS):
            raise DataError(
                f"more records are broken than data.max_bad_share = {max_share:g} allows\n{self.summary()}\n"
                "  mend or leave out these records, or raise data.max_bad_share"
            )
