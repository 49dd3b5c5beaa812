"""Locate the cache folder, lock its entries, and tell whether the network may be used. Imports no torch.

The cache is in `$X2KIT_CACHE`, else in `x2kit` under the user's cache folder (`$XDG_CACHE_HOME`, `~/.cache`).

lines/      arrays computed from data files (`x2kit.data.storage.index_cache`)
models/     downloaded checkpoints of published models (`x2kit.hub.published`)
converted/  weights directories made from official checkpoints (`x2kit.interop.conversions`)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from x2kit.errors import StorageError
from x2kit.io.atomic import storage_errors
from x2kit.io.run_directory import NO_LOCKS

OFFLINE = ("X2KIT_OFFLINE", "HF_HUB_OFFLINE")
"""Environment variables; either forbids downloads."""
_TRUE = ("1", "on", "yes", "true")


def cache_folder() -> Path:
    """Return the folder of the cache."""
    if path := os.environ.get("X2KIT_CACHE"):
        return Path(path)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "x2kit"


def offline_variable() -> str | None:
    """Return the environment variable that forbids downloads; None if they are allowed."""
    return next((name for name in OFFLINE if os.environ.get(name, "").strip().lower() in _TRUE), None)


@contextmanager
def locked_entry(entry: Path, keep: bool = True) -> Iterator[None]:
    """Hold the lock of a cache entry, waiting for another process that holds it.

    The operating system releases the lock of a killed process. On a file system without locks nothing is held.

    Args:
        entry: file or folder; the lock file lies beside it.
        keep: whether the lock file stays. Without it a process that waited and one that came later can hold the lock
            together, so both must look for the entry first.
    Raises: StorageError if the lock file cannot be written.
    """
    from filelock import FileLock  # 20 ms that `x2kit --help` need not wait for

    lock = FileLock(entry.with_name(f".{entry.name}.lock"), fallback_to_soft=False)
    with storage_errors(entry):
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise StorageError(f"{entry.parent}: is not a folder; set X2KIT_CACHE to a folder") from error
        try:
            lock.acquire()
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
    try:
        yield
    finally:
        if not keep:
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
