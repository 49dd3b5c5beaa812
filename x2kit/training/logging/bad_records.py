"""The broken records of a run, in its directory: all of them counted, some of each kind with file and line.

    bad-records.jsonl         one line a broken record, as it is met: step, stream, record, reason, file, line, offset,
                              message; of each stream and reason at most the first 100
    bad-records-counts.json   records drawn, records broken, and how many of each stream and reason: all of them

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
    """Counts and writes what a run leaves out. A resumed run goes on where its checkpoint was.

    Args:
        run: the run directory, which exists.
        steps_done: lines of later steps are dropped; they are about to be written again.
        state: what `state` gave at that step; None for a new run.
    """

    def __init__(self, run: Path, steps_done: int = 0, state: Mapping[str, Any] | None = None) -> None:
        self.bad = BadRecords()
        self._run = run
        kept = [line for line in read_lines(run / BAD_RECORDS) if line["step"] <= steps_done]
        for line in kept:
            self.bad.keep(from_line(line))
        if state is not None:
            self.bad.restore(state)
        with atomic_file(run / BAD_RECORDS) as beside:
            beside.write_text("".join(map(_text, kept)), encoding="utf-8")
        self._file = (run / BAD_RECORDS).open("a", encoding="utf-8")
        self.write_counts()

    def add(self, batch: Batch, max_share: float) -> None:
        """Count the records of a batch and write those that are new.

        Raises: DataError with a summary if more than `max_share` of all are broken.
        """
        new = self.bad.add(batch)
        if new:
            with storage_errors(self._run / BAD_RECORDS):
                self._file.writelines(_text(to_line(fault, batch.step + 1)) for fault in new)
                self._file.flush()
        self.bad.check(max_share)

    @property
    def total(self) -> int:
        """Broken records so far."""
        return self.bad.total

    def state(self) -> dict[str, Any]:
        """The counts as plain values, for a checkpoint."""
        return self.bad.state()

    def write_counts(self) -> None:
        """Bring the file of counts up to date."""
        with atomic_file(self._run / BAD_COUNTS) as beside:
            beside.write_text(json.dumps(self.state(), indent=1) + "\n", encoding="utf-8")

    def sync(self) -> None:
        """What was written is on the disk, the counts with it."""
        with storage_errors(self._run / BAD_RECORDS):
            self._file.flush()
            os.fsync(self._file.fileno())
        self.write_counts()

    def close(self) -> None:
        """The last counts, and the end of the file."""
        with storage_errors(self._run / BAD_RECORDS):
            self._file.close()
        self.write_counts()

    def summary(self) -> str:
        """The counts in words, with the file that tells more; nothing where no record is broken."""
        counted = self.bad.summary()
        return f"{counted}\n  more of them: {self._run / BAD_RECORDS}" if counted else ""


def to_line(fault: BrokenRecord, step: int | None = None) -> dict[str, Any]:
    """A broken record as plain values; `step` counts from 1."""
    place = fault.place or Place("")
    return {
        **({} if step is None else {"step": step}),
        "stream": fault.stream,
        "record": fault.record,
        "reason": fault.reason.value,
        "file": place.file or None,
        "line": place.line,
        "offset": place.offset,
        "message": fault.message,
    }


def from_line(line: Mapping[str, Any]) -> BrokenRecord:
    """The broken record of a line."""
    place = Place(line["file"], line["line"], line["offset"]) if line["file"] else None
    return BrokenRecord(line["stream"], line["record"], Reason(line["reason"]), line["message"], place)


def _text(line: Mapping[str, Any]) -> str:
    # Escaped: a message may quote half a character, which no file could hold.
    return json.dumps(line) + "\n"
