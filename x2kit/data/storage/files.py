"""Read local files, and remote ones through fsspec. Imports no torch.

A location is a local path or a URL such as `s3://bucket/a.tar`, `gs://`, `hf://`, `memory://`, `https://`. Failed reads
of remote stores are retried (`x2kit.data.storage.remote`). Every error is a `DataError` with location and reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from glob import glob
from io import FileIO
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

from x2kit.data.storage import remote
from x2kit.data.storage.limits import check_size, max_record_bytes
from x2kit.data.storage.locations import FileInfo, FileMissing, is_url, name_of
from x2kit.errors import DataError, Reason


def is_folder(path: str) -> bool:
    """Return whether a local folder exists. Raises DataError if it cannot be read."""
    with _data_errors(path):
        return Path(path).is_dir()


def stat(location: str) -> FileInfo:
    """Return size and version of a file. Raises FileMissing, and DataError if it cannot be read."""
    if is_url(location):
        return remote.stat(location)
    with _data_errors(location):
        return _info(location, os.stat(location))  # noqa: PTH116  # of each of many shards


def list_files(location: str) -> list[FileInfo]:
    """List one file, the matches of a pattern, or the files directly in a folder.

    A pattern has `*`, `**` or `[...]`, in a local path also `?`. Hidden files and `_SUCCESS`, the mark of a completed
    folder, are skipped in folders.

    Returns: files sorted by location; empty if there is none.
    Raises: DataError if the store cannot be read.
    """
    if is_url(location):
        found = remote.list_files(location)
    else:
        with _data_errors(location):
            if (file := _file_at(location)) is not None:
                return [file]
            found = [file for match in _matches(location) if (file := _file_at(match)) is not None]
    if [file.location for file in found] != [location]:
        names = [(file, name_of(file.location)) for file in found]
        found = [file for file, name in names if "_SUCCESS" not in name and not name.startswith(".")]
    return sorted(found, key=lambda file: file.location)


def _matches(location: str) -> list[str]:
    """List a folder, or the matches of a pattern, in any order."""
    path = Path(location)
    top = Path(path.anchor)
    if path.is_dir():
        return list(map(str, path.iterdir()))
    if "**" in location:
        return list(map(str, top.glob(str(path.relative_to(top)))))
    return glob(str(path), include_hidden=True)  # noqa: PTH207  # four times as fast


def _file_at(location: str) -> FileInfo | None:
    """Return size and version of a file; None if there is none, or something else. Raises OSError and ValueError."""
    try:
        status = os.stat(location)  # noqa: PTH116  # of each of many shards
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _info(location, status) if S_ISREG(status.st_mode) else None


def _info(location: str, status: os.stat_result) -> FileInfo:
    # the time of modification can be set back, as copying does; that of the change cannot
    return FileInfo(
        location, status.st_size, f"{status.st_mtime_ns} {status.st_ctime_ns}", status.st_ctime_ns / 1e9
    )


def nearest_hint(location: str) -> str:
    """Suggest an existing path for a missing one: `; nearest: …`.

    Compares the first missing part with the names in its folder.

    Returns: an empty text for URLs, and if no name is similar.
    """
    if is_url(location):
        return ""
    path = Path(location)
    try:
        missing = next((part for part in (*reversed(path.parents), path) if not part.exists()), None)
        names = [] if missing is None else [entry.name for entry in missing.parent.iterdir()]
    except (OSError, ValueError):  # not readable; the caller already reports the missing path
        return ""
    near = [] if missing is None else get_close_matches(missing.name, names, n=1)
    return f"; nearest: {missing.parent / near[0]}" if missing is not None and near else ""


def read(location: str, start: int = 0, end: int | None = None) -> bytes:
    """Read the bytes from `start` up to, not including, `end`; None for the end of the file.

    Returns: fewer bytes if the file is shorter.
    Raises: FileMissing, and DataError if it cannot be read.
    """
    if is_url(location):
        return remote.read(location, start, end)
    with _data_errors(location), open(location, "rb", buffering=0) as file:  # noqa: PTH123  # per record: no Path
        if start:
            file.seek(start)
        return _read_count(file, end - start) if end is not None else file.readall()


def read_limited(location: str) -> bytes:
    """Read the whole file of a record. Raises as `read`, and DataError above the size limit of records."""
    if is_url(location):
        return remote.read_limited(location, max_record_bytes())
    size = stat(location).size
    check_size(size, location)
    return read(location, 0, size)


def open_file(location: str) -> BinaryIO:
    """Open a seekable file. Its reads raise DataError only if it is remote.

    Raises: FileMissing, and DataError if it cannot be opened.
    """
    if is_url(location):
        return remote.open_file(location)
    with _data_errors(location):
        return Path(location).open("rb")


def chunks(location: str, size: int = 16 * 2**20) -> Iterator[bytes]:
    """Read a whole file in chunks of `size` bytes. Raises as `read`."""
    with open_file(location) as file, _data_errors(location):
        while chunk := file.read(size):
            yield chunk


def _read_count(file: FileIO, count: int) -> bytes:
    """Read repeatedly: one read of an unbuffered file returns at most 2 GiB on Linux."""
    content = file.read(count) or b""
    while 0 < len(content) < count and (more := file.read(count - len(content))):
        content += more
    return content


@contextmanager
def _data_errors(location: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FileMissing(location) from error
    except ValueError as error:  # a lone surrogate or a null character
        raise DataError(f"{location!r} is not a valid file name", reason=Reason.FILE_MISSING) from error
    except OSError as error:
        raise DataError(
            f"{location}: cannot be read: {error.strerror or error}", reason=Reason.FILE_UNREADABLE
        ) from error
