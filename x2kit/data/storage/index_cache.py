"""What reading a large file once has told, kept for the next time. Imports no torch.

The cache is in `$X2KIT_CACHE`, else in `x2kit` under the user's cache folder (`$XDG_CACHE_HOME`, `~/.cache`). It can be
deleted at any time; what nobody has used for three months is deleted when something new is kept.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from x2kit.data.storage import files

L = TypeVar("L", str, Path)
_log = logging.getLogger(__name__)
_LAYOUT = 2
"""Part of every name, so that an index of another version is not taken for one of this."""
REMEMBERED_FROM = 16 * 2**20
"""Bytes of a local file from which on what it holds is remembered; smaller ones are read in no time."""
UNUSED_SECONDS = 90 * 24 * 3600
"""After which an entry is deleted: files are moved and changed, and nobody asks for their old entries again."""


def cache_folder() -> Path:
    """Where the cache is."""
    if own := os.environ.get("X2KIT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "x2kit"


def is_slow(location: str) -> bool:
    """Whether a file is so large, or so far away, that what reading it tells is worth remembering.

    Raises: DataError if it cannot be looked at.
    """
    return files.is_url(location) or files.state(location).size >= REMEMBERED_FROM


def remembered_if_slow(
    location: str, find: Callable[[str], NDArray[Any]], what: str = "lines"
) -> NDArray[Any]:
    """As `remembered`, of large and of remote files alone."""
    return remembered(location, find, what) if is_slow(location) else find(location)


def remembered(location: L, find: Callable[[L], NDArray[Any]], what: str = "lines") -> NDArray[Any]:
    """What `find` finds in a file; from the cache if the file has the size and the version that it had then.

    Args:
        location: of the file, a local path or a URL. One whose store tells no version is never remembered.
        find: reads the file; its result must follow from the content and `what` alone.
        what: is found, in a word or two; one file can have several such arrays.
    Returns: the array, read-only and mapped into memory where it is cached, so that processes share it.
    Raises: DataError if the file cannot be read.
    """
    return _remembered([str(location)], lambda: find(location), what)


def remembered_fingerprint(locations: Sequence[str], find: Callable[[], str], what: str) -> str:
    """The hash of the content of several files; from the cache if each has the size and the version that it had then.

    Files that are local and together small are hashed every time.

    Args:
        locations: of the files.
        find: hashes them; its result must follow from their contents and `what` alone.
        what: is hashed beside the contents.
    Raises: DataError if a file cannot be read.
    """
    local = [location for location in locations if not files.is_url(location)]
    if len(local) == len(locations) and sum(files.state(each).size for each in local) < REMEMBERED_FROM:
        return find()
    found = _remembered(locations, lambda: np.frombuffer(find().encode(), np.uint8), f"fingerprint {what}")
    return found.tobytes().decode()


def _remembered(locations: Sequence[str], find: Callable[[], NDArray[Any]], what: str) -> NDArray[Any]:
    before = [files.state(location) for location in locations]
    if any(file.version is None for file in before):
        return find()
    kept = cache_folder() / "lines" / f"{_name(before, what)}.npy"
    try:
        cached: NDArray[Any] = np.load(kept, mmap_mode="r", allow_pickle=False)
        _used(kept)
        return cached
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError) as error:
        _log.info("%s: damaged (%s), so %s is read again", kept, error, ", ".join(locations))
    found = find()
    if [files.state(location) for location in locations] == before:  # not of a file that is still written
        _keep(kept, found)
    return found


def _name(found: Sequence[files.File], what: str) -> str:
    facts: list[Any] = [_LAYOUT, what]
    for file in found:
        location = file.location if files.is_url(file.location) else str(Path(file.location).absolute())
        facts += [location, file.size, file.version]
    return blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def _keep(kept: Path, found: NDArray[Any]) -> None:
    """Write beside, then rename: who reads at the same time finds all of it or nothing."""
    beside = kept.with_name(f"{kept.stem}.{os.getpid()}.tmp")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            np.save(file, found, allow_pickle=False)
        beside.replace(kept)
        _forget_unused(kept.parent)
    except OSError as error:  # a cache is not needed: on a full disk the file is read again next time
        _log.info("%s: cannot be kept: %s", kept, error)
        if beside.exists():
            beside.unlink()


def _used(kept: Path) -> None:
    """Its time is that of its last use; many file systems do not keep the time of reading."""
    try:
        os.utime(kept)
    except OSError as error:  # a cache that is only read, which nobody else may delete from either
        _log.debug("%s: its use cannot be noted: %s", kept, error)


def _forget_unused(folder: Path) -> None:
    """Delete what was not used for long, and what writers that were killed have left."""
    oldest = time.time() - UNUSED_SECONDS
    for entry in folder.iterdir():
        try:
            if entry.suffix in (".npy", ".tmp") and entry.stat().st_mtime < oldest:
                entry.unlink()
        except FileNotFoundError:  # another process has just done so
            continue
