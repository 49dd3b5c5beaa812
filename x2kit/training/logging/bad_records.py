"""Write the broken records of a run to its directory: all counts, a bounded number of lines.

    bad-records.jsonl         one line per broken record: step, stream, record, reason, file, line, offset, message;
                              at most the first 100 of each stream and reason
    bad-records-counts.json   records drawn, records broken, and counts by stream and reason

Imports torch through the batch's layout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from x2kit.data.pipeline.batch import Batch, BrokenRecord
from x2kit.data.validation.bad_records import BadRecords
from x2kit.errors import Reason
from x2kit.io.atomic import atomic_file, storage_errors
from x2kit.io.run_directory import BAD_COUNTS, BAD_RECORDS, read_lines
from x2kit.plugin.sources import Place


class BadRecordsOfRun:
    """Count and write the records that a run skips; resumes from a checkpoint's counts.

    Args:
        run: the run directory, exists.
        steps_done: lines of later steps are dropped, since those steps run again.
        state: returned by `state` at that step; None for a new run.
    """

    def __init__(self, run: Path, steps_done: int = 0, state: Mapping[str, Any] | None = None) -> None:
        self.bad = BadRecords()
        self._run = run
        kept = [line for line in read_lines(run / BAD_RECORDS) if line["step"] <= steps_done]
        for line in kept:
            self.bad.keep(_from_line(line))
        if state is not None:
            self.bad.restore(state)
        with atomic_file(run / BAD_RECORDS) as partial:
            partial.write_text("".join(map(_dump, kept)), encoding="utf-8")
        self._file = (run / BAD_RECORDS).open("a", encoding="utf-8")
        self.write_counts()

    def add(self, batch: Batch, max_share: float) -> None:
        """Count the records of a batch and write new broken ones.

        Raises: DataError with a summary if more than `max_share` of all records are broken.
        """
        new = self.bad.add(batch)
        if new:
            with storage_errors(self._run / BAD_RECORDS):
                self._file.writelines(_dump(_to_line(fault, batch.step + 1)) for fault in new)
                self._file.flush()
        self.bad.check(max_share)

    @property
    def total(self) -> int:
        """Number of broken records so far."""
        return self.bad.total

    def state(self) -> dict[str, Any]:
        """Return the counts as plain values, for a checkpoint."""
        return self.bad.state()

    def write_counts(self) -> None:
        """Write the file of counts."""
        with atomic_file(self._run / BAD_COUNTS) as partial:
            partial.write_text(json.dumps(self.state(), indent=1) + "\n", encoding="utf-8")

    def sync(self) -> None:
        """Sync lines and counts to disk."""
        with storage_errors(self._run / BAD_RECORDS):
            self._file.flush()
            os.fsync(self._file.fileno())
        self.write_counts()

    def close(self) -> None:
        """Close the file of lines and write the final counts."""
        with storage_errors(self._run / BAD_RECORDS):
            self._file.close()
        self.write_counts()

    def summary(self) -> str:
        """Summarise the counts, with the path of the lines; empty without broken records."""
        counted = self.bad.summary()
        return f"{counted}\n  more in {self._run / BAD_RECORDS}" if counted else ""


def _to_line(fault: BrokenRecord, step: int) -> dict[str, Any]:
    """Convert a broken record to plain values; `step` counts from 1."""
    place = fault.place or Place("")
    return {
        "step": step,
        "stream": fault.stream,
        "record": fault.record,
        "reason": fault.reason.value,
        "file": place.file or None,
        "line": place.line,
        "offset": place.offset,
        "message": fault.message,
    }


def _from_line(line: Mapping[str, Any]) -> BrokenRecord:
    place = Place(line["file"], line["line"], line["offset"]) if line["file"] else None
    return BrokenRecord(line["stream"], line["record"], Reason(line["reason"]), line["message"], place)


def _dump(line: Mapping[str, Any]) -> str:
    # Escaped to ASCII: a message may quote a lone surrogate, which UTF-8 cannot encode.
    return json.dumps(line) + "\n"
