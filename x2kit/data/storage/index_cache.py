"""Cache arrays and fingerprints computed from large or remote files. Imports no torch.

They lie in `lines/` of the cache (`x2kit.io.cache`) and can be deleted at any time; each new entry deletes those unused
for three months.
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
from x2kit.data.storage.locations import FileInfo, is_url, name_of
from x2kit.io.cache import cache_folder

L = TypeVar("L", str, Path)
_log = logging.getLogger(__name__)
_LAYOUT = 2
"""Part of every key, so that versions of x2kit with different indices share no entry."""
CACHED_FROM = 16 * 2**20
"""Bytes from which a local file is cached; smaller ones are read faster than looked up."""
UNUSED_SECONDS = 90 * 24 * 3600
"""Age of the last use after which an entry is deleted; entries of moved and changed files are never used again."""


def cached_if_slow(
    location: str, compute: Callable[[str], NDArray[Any]], what: str = "lines"
) -> NDArray[Any]:
    """Return `compute(location)`, cached as in `cached` if the file is large or remote."""
    slow = is_url(location) or files.stat(location).size >= CACHED_FROM
    return cached(location, compute, what) if slow else compute(location)


def cached(location: L, compute: Callable[[L], NDArray[Any]], what: str = "lines") -> NDArray[Any]:
    """Return `compute(location)`, from the cache if size and version of the file are unchanged.

    Args:
        location: local path or URL. Files without a version are not cached.
        compute: reads the file; its result depends on the content and `what` alone.
        what: names the array; a file can have several.
    Returns: the array, read-only and memory-mapped if cached, so that processes share it.
    Raises: DataError if the file cannot be read.
    """
    return _cached([str(location)], lambda: compute(location), what)


def file_fingerprint(settings: str, locations: Sequence[str], names: Sequence[str] | None = None) -> str:
    """Hash settings, names and contents of files, cached if they are large or remote.

    Size and version represent the content of a remote file whose store reports a version.

    Args:
        settings: text that is hashed with the files.
        locations: local paths or URLs.
        names: one a file, independent of its folder; None for the file names.
    Raises: DataError if a file cannot be read.
    """
    names = list(map(name_of, locations)) if names is None else names

    def compute() -> str:
        digest = blake2b(settings.encode(), digest_size=8)
        for name, location in zip(names, locations, strict=True):
            digest.update(f"\0{name}\0".encode())
            if is_url(location) and (file := files.stat(location)).version is not None:
                digest.update(f"{file.size} {file.version}".encode())
            else:
                for chunk in files.chunks(location):
                    digest.update(chunk)
        return digest.hexdigest()

    local = not any(map(is_url, locations))
    if local and sum(files.stat(each).size for each in locations) < CACHED_FROM:
        return compute()
    what = f"fingerprint {settings} {names}"
    return _cached(locations, lambda: np.frombuffer(compute().encode(), np.uint8), what).tobytes().decode()


def _cached(locations: Sequence[str], compute: Callable[[], NDArray[Any]], what: str) -> NDArray[Any]:
    before = [files.stat(location) for location in locations]
    if any(file.version is None for file in before):
        return compute()
    entry = cache_folder() / "lines" / f"{_key(before, what)}.npy"
    try:
        array: NDArray[Any] = np.load(entry, mmap_mode="r", allow_pickle=False)
        _touch(entry)
        return array
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError) as error:
        _log.info("%s: damaged cache entry (%s); reading %s again", entry, error, ", ".join(locations))
    array = compute()
    if [files.stat(location) for location in locations] == before:  # not while it is still being written
        _store(entry, array)
    return array


def _key(found: Sequence[FileInfo], what: str) -> str:
    facts: list[Any] = [_LAYOUT, what]
    for file in found:
        location = file.location if is_url(file.location) else str(Path(file.location).absolute())
        facts += [location, file.size, file.version]
    return blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def _store(entry: Path, array: NDArray[Any]) -> None:
    """Write a temporary file and rename it, so that readers find a whole entry or none."""
    temporary = entry.with_name(f"{entry.stem}.{os.getpid()}.tmp")
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        temporary.replace(entry)
        _delete_unused(entry.parent)
    except OSError as error:  # the cache is optional: on a full disk the file is read again next time
        _log.info("%s: cannot be cached: %s", entry, error)
        if temporary.exists():
            temporary.unlink()


def _touch(entry: Path) -> None:
    """Set the time of last use; many file systems record no access time."""
    try:
        os.utime(entry)
    except OSError as error:  # a read-only cache, from which nothing is deleted either
        _log.debug("%s: cannot update its time: %s", entry, error)


def _delete_unused(folder: Path) -> None:
    """Delete entries not used for long, and temporary files of killed processes."""
    oldest = time.time() - UNUSED_SECONDS
    for entry in folder.iterdir():
        try:
            if entry.suffix in (".npy", ".tmp") and entry.stat().st_mtime < oldest:
                entry.unlink()
        except FileNotFoundError:  # deleted by another process
            continue
