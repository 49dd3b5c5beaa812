"""Identify files by their SHA-256, and the running code by its version. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

Progress = Callable[[str, int, int | None], None]
"""Called with a description, bytes done and all bytes, None if unknown."""
CHUNK = 2**23
"""Bytes between two calls of the progress."""


def no_progress(stage: str, done: int, total: int | None) -> None:
    """Ignore the progress."""


def sha256_of(file: Path, progress: Progress = no_progress) -> str:
    """Compute the SHA-256 of a file.

    Args:
        file: of any size.
        progress: called after every 8 MiB.
    """
    digest, done, total = hashlib.sha256(), 0, file.stat().st_size
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            done += len(chunk)
            progress(f"checking {file.name.removesuffix('.part')}", done, total)
    return digest.hexdigest()


def own_version() -> str:
    """Return the version of the code: a checkout may run uninstalled, or be newer than its metadata."""
    # not an import statement: the package exports names of rooms above this one
    version: str = import_module("x2kit").__version__
    return version
