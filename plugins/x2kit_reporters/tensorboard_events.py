"""Write metrics as TensorBoard event files. Imports tensorboard."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from x2kit.plugin import RunFacts, RunStatus


class TensorBoardReporter:
    """Append to one event file per start of the run.

    Every line is flushed at once and without a thread, so a killed run loses no event of a step before its checkpoint.
    """

    def __init__(self) -> None:
        self._file: Any = None

    def start(self, run: RunFacts, folder: Path) -> None:
        """Open a new file; TensorBoard drops events of earlier files from the next step on."""
        name = f"events.out.tfevents.{time.time_ns()}.{platform.node()}.{os.getpid()}"
        self._file = RecordWriter((folder / name).open("wb", buffering=0))
        self._write(file_version="brain.Event:2")
        self._write(step=run.step + 1, session_log=SessionLog(status=SessionLog.START))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write all values; streams become sections, since TensorBoard groups by the part before a slash."""
        scalars = [
            Summary.Value(tag=name.replace(".", "/", 1), simple_value=value) for name, value in values.items()
        ]
        self._write(step=step, summary=Summary(value=scalars))

    def end(self, status: RunStatus) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, **fields: Any) -> None:
        self._file.write(Event(wall_time=time.time(), **fields).SerializeToString())
