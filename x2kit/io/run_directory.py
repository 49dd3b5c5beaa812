"""What lies in a run directory, and how its metrics are read. Imports no torch."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from x2kit.errors import CheckpointError
from x2kit.io.atomic import storage_errors

INITIALISATION = "initialisation.json"
RECIPE, VERSIONS, METRICS, TENSORBOARD = "recipe.yaml", "versions.json", "metrics.jsonl", "tensorboard"
REPORTERS = "reporters"
"""A folder for each reporter, by its name in the recipe."""
TRACEBACK = "traceback.txt"
"""Of the error in a plugin's code that ended the run."""
BAD_RECORDS, BAD_COUNTS = "bad-records.jsonl", "bad-records-counts.json"


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that a killed process left unfinished is dropped."""
    return read_lines(run / METRICS)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file, none if it is missing; an unfinished last line is dropped."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


LOCK = "lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems of some clusters answer, which know no locks."""


@contextmanager
def run_lock(run: Path) -> Iterator[str | None]:
    """Hold the run directory, which is made if it is not there, until the block ends or the process dies.

    The lock belongs to the process, not to the file, so a killed one leaves nothing that would have to be removed.

    Yields: what is to be said where the file system knows no locks, so that nothing is held; else None.
    Raises: CheckpointError, which tells the other process, if the directory is held; StorageError.
    """
    with storage_errors(run):
        run.mkdir(parents=True, exist_ok=True)
        file = os.open(run / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        unheld = _take(file, run)
        with storage_errors(run):
            os.ftruncate(file, 0)
            os.write(file, f"{os.getpid()} on {os.uname().nodename}\n".encode())
        yield unheld
    finally:
        os.close(file)


def require_unlocked(run: Path) -> None:
    """Raise CheckpointError if a process is training in this directory."""
    if (run / LOCK).is_file():
        with run_lock(run):
            pass


def _take(file: int, run: Path) -> str | None:
    try:
        # not flock: workers of the loader inherit its lock, and may live a little longer than a process that is killed
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return f"{run}: this file system knows no locks, so a second process here would not be noticed"
        if not isinstance(error, BlockingIOError | PermissionError):
            raise
        holder = os.pread(file, 200, 0).decode(errors="replace").strip() or "one that has just begun"
        raise CheckpointError(
            f"{run}: another process is training here: {holder}; wait for its end or stop it (SIGTERM lets it save), "
            "or name another --run-dir"
        ) from error
    return None
