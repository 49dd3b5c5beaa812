"""Write files and directories atomically, and explain disk errors. Imports no torch."""

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
"""The disk is full, the user's quota is exceeded, or the file would exceed the size limit."""
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTDIR, errno.ENAMETOOLONG)
_LEFTOVER = re.compile(r"\.(?P<name>.+)\.\d+\.(?P<kind>partial|old)(?:\.[^.]+)?")


@contextmanager
def atomic_folder(path: Path, needs: int | None = None) -> Iterator[Path]:
    """Fill a temporary directory, then rename it to `path`; remove it if the block raises.

    Args:
        path: final place; an existing directory there is replaced.
        needs: size in bytes if known, for the message of a full disk.
    Raises: StorageError if the disk is full or refuses the write.
    """
    partial = _temporary(path, "partial")
    with storage_errors(path, needs):
        try:
            shutil.rmtree(partial, ignore_errors=True)
            make_folder(partial)
            yield partial
            for file in (*partial.rglob("*"), partial):
                _sync(file)
            old = _temporary(path, "old")
            if path.exists():
                path.rename(old)
            partial.rename(path)
            _sync(path.parent)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Write a temporary file, then rename it to `path`; remove it if the block raises.

    Raises: StorageError if the disk is full or refuses the write.
    """
    partial = _temporary(path, f"partial{path.suffix}")
    with storage_errors(path):
        try:
            make_folder(path.parent)
            yield partial
            _sync(partial)
            partial.replace(path)
            _sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Create a folder with its parents, and sync each new directory entry to disk."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        _sync(place.parent)


def delete_folder(path: Path) -> None:
    """Rename a directory, then delete it, so that a killed process leaves no half under its name."""
    partial = _temporary(path, "partial")
    path.rename(partial)
    shutil.rmtree(partial)


def clear_leftovers(folder: Path) -> list[str]:
    """Remove partial files of killed processes, and restore a directory that was being replaced.

    No other process may be writing in the folder.

    Returns: a message for each.
    """
    messages = []
    for leftover in sorted(folder.glob(".*")) if folder.is_dir() else []:
        match = _LEFTOVER.fullmatch(leftover.name)
        if match is None:
            continue
        original = folder / match["name"]
        if match["kind"] == "old" and not original.exists():
            leftover.rename(original)
            messages.append(f"{original}: restored; a process was killed while replacing it")
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
        messages.append(f"{leftover}: removed; a process was killed while writing it")
    return messages


@contextmanager
def storage_errors(path: Path, needs: int | None = None) -> Iterator[None]:
    """Convert disk errors raised while writing `path` into StorageError with instructions.

    Libraries wrap the system's error in their own, so messages and causes are searched as well.
    """
    try:
        yield
    except X2KitError:
        raise
    except Exception as error:
        number = _system_error(error)
        if number in FULL:
            raise StorageError(f"{path}: not written: {_full_message(path, number, needs)}") from error
        if number in REFUSED:
            raise StorageError(f"{path}: not written: {os.strerror(number)}") from error
        raise


def _system_error(error: BaseException) -> int | None:
    """Find the errno of an error or of one in its chain of causes."""
    seen: list[BaseException] = []  # an error raised by a signal handler can occur in its own chain
    while error not in seen:
        seen.append(error)
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        for number in FULL:
            if os.strerror(number) in str(error):
                return number
        error = error.__cause__ or error.__context__ or error
    return None


def _full_message(path: Path, number: int, needs: int | None) -> str:
    folder = next(place for place in path.parents if place.exists())
    free = format_bytes(shutil.disk_usage(folder).free)
    needed = f"{format_bytes(needs)} needed, " if needs is not None else ""
    if number == errno.ENOSPC:
        return f"disk full; {needed}{free} free in {folder}"
    limit = "quota exceeded" if number == errno.EDQUOT else "file size limit exceeded (ulimit -f)"
    return f"{limit}; {needed}{free} free on the disk"


def format_bytes(size: int) -> str:
    """Format a number of bytes with a binary unit: `3 bytes`, `1.5 MiB`."""
    if size < 1024:
        return f"{size} bytes"
    power = min(4, (size.bit_length() - 1) // 10)
    return f"{size / 1024**power:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


def _temporary(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{suffix}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
