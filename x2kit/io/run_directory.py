"""Name the files of a run directory, read its metrics, and lock it. Imports no torch."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from x2kit.errors import CheckpointError
from x2kit.io.atomic import storage_errors

INITIALISATION = "initialisation.json"
MODEL, PREPROCESSING, WEIGHTS = "model.safetensors", "preprocessing.json", "weights"
LORA = "lora.safetensors"
"""File of a weights directory: adapters beside `MODEL`, to be added to its matrices."""
RECIPE, VERSIONS, METRICS = "recipe.yaml", "versions.json", "metrics.jsonl"
REPORTERS = "reporters"
"""Holds one folder per reporter, by its name in the recipe."""
SELECTION = "selection.json"
"""File of a weights directory: the validation that selected the weights."""
TRACEBACK = "traceback.txt"
"""Traceback of a plugin's error that ended the run."""
BAD_RECORDS, BAD_COUNTS = "bad-records.jsonl", "bad-records-counts.json"
LOCK = "lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of file systems without locks, as on some clusters."""


def identifying_file(weights: Path) -> Path:
    """Return the file of a weights directory whose hash identifies its model: `LORA`, which has the hash of `MODEL`."""
    return weights / (LORA if (weights / LORA).is_file() else MODEL)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Read metrics.jsonl without a last line that a killed process left unfinished."""
    return read_lines(run / METRICS)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read the objects of a JSON Lines file, none if missing; drop an unfinished last line."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def run_lock(run: Path) -> Iterator[str | None]:
    """Hold the lock of a run directory until the block ends or the process dies.

    The operating system releases the lock of a killed process. Forked data workers do not inherit it.

    Args:
        run: created if missing.
    Yields: a warning if the file system has no locks, so nothing is held; else None.
    Raises: CheckpointError, naming the other process, if the directory is locked; StorageError.
    """
    from filelock import FileLock, Timeout  # 20 ms that `x2kit --help` need not wait for

    file = run / LOCK
    lock = FileLock(file, blocking=False, fallback_to_soft=False)
    warning = None
    with storage_errors(run):
        run.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            holder = file.read_text(encoding="utf-8", errors="replace").strip() or "a process just started"
            raise CheckpointError(
                f"{run}: another process is training here: {holder}; wait for its end, stop it with SIGTERM (it saves "
                "a checkpoint), or choose another --run-dir"
            ) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            warning = f"{run}: this file system has no locks; a second process here would not be detected"
    try:
        with storage_errors(run):
            file.write_text(f"{os.getpid()} on {os.uname().nodename}\n", encoding="utf-8")
        yield warning
    finally:
        lock.release()


def require_unlocked(run: Path) -> None:
    """Raise CheckpointError if a process is training in this directory."""
    if (run / LOCK).is_file():
        with run_lock(run):
            pass
