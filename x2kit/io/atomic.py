"""Directories and files that appear whole or not at all, and what a disk says that takes no more. Imports no torch."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from x2kit.errors import StorageError, X2KitError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The disk is full, the user's quota is used up, or files may not grow so large."""
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTDIR, errno.ENAMETOOLONG)
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.\d+\.(?P<kind>partial|old)(?:\.[^.]+)?")


@contextmanager
def atomic_folder(path: Path, needs: int | None = None) -> Iterator[Path]:
    """A directory to fill that takes the place of `path` when the block ends well, and vanishes otherwise.

    Args:
        needs: its size in bytes where it is known before, for the message of a full disk.
    Raises: StorageError if the disk takes no more, or refuses to be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with storage_errors(path, needs):
        try:
            shutil.rmtree(beside, ignore_errors=True)
            make_folder(beside)
            yield beside
            for file in (*beside.rglob("*"), beside):
                _sync(file)
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            if path.exists():
                path.rename(old)
            beside.rename(path)
            _sync(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A file to write that takes the place of `path` when the block ends well, and vanishes otherwise.

    Raises: StorageError if the disk takes no more, or refuses to be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial{path.suffix}")
    with storage_errors(path):
        try:
            make_folder(path.parent)
            yield beside
            _sync(beside)
            beside.replace(path)
            _sync(path.parent)
        finally:
            beside.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """A folder and those above it; each new name is on the disk before this returns."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        _sync(place.parent)


def delete_folder(path: Path) -> None:
    """Remove a directory; a process that is killed meanwhile leaves no half of it under its name."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    path.rename(beside)
    shutil.rmtree(beside)


def clear_leftovers(folder: Path) -> list[str]:
    """Remove what killed processes left half written in a folder; what one had only set aside is put back.

    Nobody else may be writing there.

    Returns: a line for each.
    """
    said = []
    for left in sorted(folder.glob(".*")) if folder.is_dir() else []:
        match = _LEFTOVER.fullmatch(left.name)
        if match is None:
            continue
        if match["kind"] == "old" and not (folder / match["name"]).exists():
            left.rename(folder / match["name"])
            said.append(f"{folder / match['name']}: put back; a process was killed while it replaced it")
            continue
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
        said.append(f"{left}: removed; a process was killed while it wrote it")
    return said


@contextmanager
def storage_errors(path: Path, needs: int | None = None) -> Iterator[None]:
    """Turn what goes wrong with the disk while `path` is written into a StorageError that says what to do.

    Libraries hide what the system said in errors of their own, so their messages and causes are looked at as well.
    """
    try:
        yield
    except X2KitError:
        raise
    except Exception as error:
        number = _system_message(error)
        if number in FULL:
            raise StorageError(f"{path}: not written: {_no_room(path, number, needs)}") from error
        if number in REFUSED:
            raise StorageError(f"{path}: not written: {os.strerror(number)}") from error
        raise


def _system_message(error: BaseException) -> int | None:
    seen: list[BaseException] = []  # an error that a signal handler raises can be in its own chain
    while error not in seen:
        seen.append(error)
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        for number in FULL:
            if os.strerror(number) in str(error):
                return number
        error = error.__cause__ or error.__context__ or error
    return None


def _no_room(path: Path, number: int, needs: int | None) -> str:
    folder = next(place for place in path.parents if place.exists())
    free = describe_error(shutil.disk_usage(folder).free)
    wanted = f"{describe_error(needs)} are needed, " if needs is not None else ""
    if number == errno.ENOSPC:
        return f"the disk is full; {wanted}{free} are free in {folder}"
    limit = "the quota is used up" if number == errno.EDQUOT else "files may not grow so large (ulimit -f)"
    return f"{limit}; {wanted}the disk itself has {free} free"


def describe_error(size: int) -> str:
    """A number of bytes: `3 bytes`, `1.5 MiB`."""
    if size < 1024:
        return f"{size} bytes"
    power = min(4, (size.bit_length() - 1) // 10)
    return f"{size / 1024**power:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
