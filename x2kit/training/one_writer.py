"""One run directory has one writer: a job that was started twice must not mix its files. Imports no torch."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from x2kit.errors import CheckpointError
from x2kit.model.whole_files import storage_errors

LOCK = "lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems of some clusters answer, which know no locks."""


@contextmanager
def one_writer(run: Path) -> Iterator[str | None]:
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


def require_no_writer(run: Path) -> None:
    """Raise CheckpointError if a process is training in this directory."""
    if (run / LOCK).is_file():
        with one_writer(run):
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
