"""Cache arrays and fingerprints computed from large or remote files. Imports no torch.

They lie in `lines/` of the cache (`x2kit.io.cache`) and can be deleted at any time; once a day those unused for three
months are deleted.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from x2kit.data.storage import files
from x2kit.data.storage.locations import FileInfo, is_url, name_of
from x2kit.errors import StorageError
from x2kit.io.cache import cache_folder, locked_entry

L = TypeVar("L", str, Path)
_log = logging.getLogger(__name__)
_LAYOUT = 3
"""Part of every key, so that versions of x2kit with different indices share no entry."""
CACHED_FROM = 16 * 2**20
"""Bytes from which files are cached; smaller ones are read faster than looked up."""
DIGESTED_FROM = 16 * 2**30
"""Bytes of JSON Lines from which a fingerprint hashes the digests of the files instead of their contents."""
FINGERPRINT_FORM = 2
"""Recorded with the fingerprints of a run. In form 1 contents of any size were hashed, file after file."""
RACY_SECONDS = 2.0
"""A file that changed so recently is not cached: a later write can have the same time, which clocks of files round."""
UNUSED_SECONDS = 90 * 24 * 3600
"""Age of the last use after which an entry is deleted; entries of moved and changed files are never used again."""
DAY = 24 * 3600
"""Seconds between two updates of the time of last use, and between two deletions."""


def cached_if_slow(
    location: str, compute: Callable[[str], NDArray[Any]], what: str = "lines", always: bool = False
) -> NDArray[Any]:
    """Return `compute(location)`, cached as in `cached` if the file is large or remote, or `always`."""
    slow = always or is_url(location) or files.stat(location).size >= CACHED_FROM
    return cached(location, compute, what) if slow else compute(location)


def cached(location: L, compute: Callable[[L], NDArray[Any]], what: str = "lines") -> NDArray[Any]:
    """Return `compute(location)`, from the cache if size and version of the file are unchanged.

    One process computes the entry of a large file while others that need it wait.

    Args:
        location: local path or URL. Files without a version are not cached.
        compute: reads the file; its result depends on the content and `what` alone.
        what: names the array; a file can have several.
    Returns: the array, read-only and memory-mapped if cached, so that processes share it.
    Raises: DataError if the file cannot be read.
    """
    before = [files.stat(str(location))]
    quick = before[0].size < CACHED_FROM or not _can_be_cached(before)
    if not quick and (array := _load(before, what)) is not None:
        return array
    with _lock(None if quick else _entry(before, what)):
        return cached_of_all(before, lambda: compute(location), what)


def cached_of_all(found: Sequence[FileInfo], compute: Callable[[], NDArray[Any]], what: str) -> NDArray[Any]:
    """Return what is computed from several files, from the cache if all are unchanged; nobody waits.

    Args:
        found: from `files.stat`, before they are read.
        compute: reads the files.
        what: names the array.
    Returns: as `cached`.
    Raises: DataError if a file cannot be read.
    """
    array = _load(found, what)
    if array is not None:
        return array
    storable = _can_be_cached(found)
    array = compute()
    if storable and [files.stat(file.location) for file in found] == [*found]:  # not while they are written
        _store(_entry(found, what), array)
        shared = _load(found, what)  # instead of a copy of this process alone
        return array if shared is None else shared
    return array


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
    found = [files.stat(location) for location in locations]

    def compute() -> str:
        digest = blake2b(settings.encode(), digest_size=8)
        for name, file in zip(names, found, strict=True):
            digest.update(f"\0{name}\0".encode())
            if is_versioned(file):
                digest.update(f"{file.size} {file.version}".encode())
            else:
                for chunk in files.chunks(file.location):
                    digest.update(chunk)
        return digest.hexdigest()

    if not any(map(is_url, locations)) and sum(file.size for file in found) < CACHED_FROM:
        return compute()
    what = f"fingerprint {settings} {names}"
    array = cached_of_all(found, lambda: np.frombuffer(compute().encode(), np.uint8), what)
    return array.tobytes().decode()


_form: ContextVar[int] = ContextVar("fingerprint form", default=FINGERPRINT_FORM)


@contextmanager
def fingerprints_in_form(form: int) -> Iterator[None]:
    """Compute the fingerprints of a block in a form, for runs that recorded them in form 1."""
    token = _form.set(form)
    try:
        yield
    finally:
        _form.reset(token)


def uses_digests(size: int) -> bool:
    """Return whether the fingerprint of this many bytes of JSON Lines hashes digests."""
    return size >= DIGESTED_FROM and _form.get() > 1


def is_versioned(file: FileInfo) -> bool:
    """Return whether a fingerprint needs no content of a file: its store reports a version."""
    return is_url(file.location) and file.version is not None


def _can_be_cached(found: Sequence[FileInfo]) -> bool:
    """Return whether later writes of the files will change their versions."""
    settled = time.time() - RACY_SECONDS
    return all(
        file.version is not None and (file.changed is None or file.changed < settled) for file in found
    )


def _load(found: Sequence[FileInfo], what: str) -> NDArray[Any] | None:
    """Map an entry; None without one, and if it is damaged."""
    if any(file.version is None for file in found):
        return None
    entry = _entry(found, what)
    try:
        array: NDArray[Any] = np.load(entry, mmap_mode="r", allow_pickle=False)
        _touch(entry)
        return array
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, EOFError) as error:
        _log.info("%s: damaged cache entry (%s); reading %s again", entry, error, found[0].location)
        return None


def _entry(found: Sequence[FileInfo], what: str) -> Path:
    key = blake2b(repr([_LAYOUT, what]).encode(), digest_size=16)
    for file in found:
        location = file.location
        if not location.startswith("/") and not is_url(location):
            location = str(Path(location).absolute())
        key.update(f"{location}\0{file.size}\0{file.version}\0".encode())
    return cache_folder() / "lines" / f"{key.hexdigest()}.npy"


@contextmanager
def _lock(entry: Path | None) -> Iterator[None]:
    """Hold the lock of an entry; hold nothing where the cache cannot be written, and without an entry."""
    with ExitStack() as held:
        try:
            if entry is not None:
                held.enter_context(locked_entry(entry, keep=False))
        except StorageError as error:
            _log.info("%s: computed without a lock: %s", entry, error)
        yield


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
    """Update the time of last use once a day; many file systems record no access time."""
    try:
        if entry.stat().st_mtime < time.time() - DAY:
            os.utime(entry)
    except OSError as error:  # a read-only cache, from which nothing is deleted either
        _log.debug("%s: cannot update its time: %s", entry, error)


def _delete_unused(folder: Path) -> None:
    """Delete, once a day, entries not used for long, and temporary files of killed processes."""
    now, mark = time.time(), folder.with_name(f"{folder.name}.cleaned")
    if mark.exists() and mark.stat().st_mtime > now - DAY:
        return
    mark.touch()
    for entry in folder.iterdir():
        try:
            if entry.suffix in (".npy", ".tmp", ".lock") and entry.stat().st_mtime < now - UNUSED_SECONDS:
                entry.unlink()
        except FileNotFoundError:  # deleted by another process
            continue
