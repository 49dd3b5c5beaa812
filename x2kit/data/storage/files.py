"""Where all data of the core is read: local files and whatever fsspec reaches. Imports no torch.

A location is a text: a local path, or a URL such as `s3://bucket/a.tar`, `gs://`, `hf://`, `memory://`, `https://`.
Reads of remote stores that fail for the moment are tried again (see `x2kit.data.storage.remote`). Whatever fails in the
end is a `DataError` that names location and reason. fsspec is imported with the first URL, not when the command line
starts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from io import FileIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from x2kit.data.storage.limits import max_record_bytes, require_few_bytes
from x2kit.errors import DataError, Reason

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class File(NamedTuple):
    """A file as it was when it was looked at.

    Attributes:
        location: local path or URL.
        size: in bytes.
        version: of the content: changes whenever it is written anew; None where the store does not tell.
    """

    location: str
    size: int
    version: str | None


class FileMissing(DataError):
    """Nothing is at a location."""

    def __init__(self, location: str) -> None:
        super().__init__(f"{location}: no such file", reason=Reason.FILE_MISSING)


def is_url(location: str) -> bool:
    """Whether a location is a URL rather than a local path."""
    return _URL.match(location) is not None


def join(folder: str, name: str) -> str:
    """A name in a folder; a name that is a URL or an absolute path stays as it is."""
    if is_url(name) or not name:
        return name or folder
    if is_url(folder):
        return f"{folder.rstrip('/')}/{name.removeprefix('./').lstrip('/')}"
    return str(Path(folder, name))


def folder_of(location: str) -> str:
    """The folder of a file."""
    return location.rpartition("/")[0] if is_url(location) else str(Path(location).parent)


def name_of(location: str) -> str:
    """The last part of a location; the query of a web address is no part of it."""
    return location.split("?")[0].rstrip("/").rpartition("/")[2] if is_url(location) else Path(location).name


def shared_names(locations: Iterable[str]) -> list[str]:
    """Names from the folder that all share down: unique, and the same where the data lies elsewhere."""
    whole = [location if is_url(location) else Path(location).absolute().as_posix() for location in locations]
    parts = [location.split("/") for location in whole]
    depth = min(map(len, parts)) - 1
    shared = next((n for n in range(depth) if len({part[n] for part in parts}) > 1), depth)
    return ["/".join(part[shared:]) for part in parts]


def exists(location: str) -> bool:
    """Whether a file or a folder is there. Raises DataError if that cannot be found out."""
    if is_url(location):
        from x2kit.data.storage import remote as remote_files

        return remote_files.kind(location) is not None
    with _local(location):
        return Path(location).exists()


def is_folder(location: str) -> bool:
    """Whether a folder is there. Raises DataError if that cannot be found out."""
    if is_url(location):
        from x2kit.data.storage import remote as remote_files

        return remote_files.kind(location) == "directory"
    with _local(location):
        return Path(location).is_dir()


def state(location: str) -> File:
    """A file's size and version. Raises FileMissing, and DataError if it cannot be looked at."""
    if is_url(location):
        from x2kit.data.storage import remote as remote_files

        return remote_files.state(location)
    with _local(location):
        found = Path(location).stat()
    return File(location, found.st_size, str(found.st_mtime_ns))


def matching(location: str) -> list[File]:
    """The files that a setting names: one file, those that a pattern fits, or those directly in a folder.

    A pattern has `*`, `**` or `[...]`, in a local path also `?`. Names with a dot in front and `_SUCCESS`, the mark
    of a finished folder, are left out of folders.

    Returns: in the order of their names; none if there is nothing.
    Raises: DataError if the store cannot be asked.
    """
    if is_url(location):
        from x2kit.data.storage import remote as remote_files

        found = remote_files.matching(location)
    else:
        path = Path(location)
        with _local(location):
            if path.is_file():
                return [state(location)]
            top = Path(path.anchor)
            matches = path.iterdir() if path.is_dir() else top.glob(str(path.relative_to(top)))
            found = [state(str(match)) for match in matches if match.is_file()]
    in_folder = len(found) != 1 or found[0].location != location
    kept = [file for file in found if not in_folder or _is_data(name_of(file.location))]
    return sorted(kept, key=lambda file: file.location)


def nearest_to(location: str) -> str:
    """`; nearest: …` with the local path most like a missing one: its first missing part, in the folder above it.

    Returns: nothing for URLs, and where the folder has nothing alike.
    """
    if is_url(location):
        return ""
    path = Path(location)
    try:
        missing = next((part for part in (*reversed(path.parents), path) if not part.exists()), None)
        names = [] if missing is None else [entry.name for entry in missing.parent.iterdir()]
    except (OSError, ValueError):  # it cannot be looked at, and the caller already reports the missing path
        return ""
    near = [] if missing is None else get_close_matches(missing.name, names, n=1)
    return f"; nearest: {missing.parent / near[0]}" if missing is not None and near else ""


def read(location: str, start: int = 0, end: int | None = None) -> bytes:
    """The bytes from `start` up to, not with, `end`; all to the file's end if it is None.

    Returns: fewer where the file is shorter.
    Raises: FileMissing, and DataError if it cannot be read.
    """
    if is_url(location):
        from x2kit.data.storage import remote as remote_files

        return remote_files.read(location, start, end)
    with _local(location), open(location, "rb", buffering=0) as file:  # noqa: PTH123  # no Path: once a record
        if start:
            file.seek(start)
        return _all(file, end - start) if end is not None else file.readall()


def read_limited(location: str) -> bytes:
    """A whole file of a record. Raises DataError as `read` does, and if it is larger than a record may be."""
    if is_url(location):
        from x2kit.data.storage import remote as remote_files

        return remote_files.read_limited(location, max_record_bytes())
    size = state(location).size
    require_few_bytes(size, location)
    return read(location, 0, size)


def open_file(location: str) -> BinaryIO:
    """The file for reading from front to end, or with seeking. Its reads raise DataError only where they are remote.

    Raises: FileMissing, and DataError if it cannot be opened.
    """
    if is_url(location):
        from x2kit.data.storage import remote as remote_files

        return remote_files.open_file(location)
    with _local(location):
        return Path(location).open("rb")


def chunks(location: str, size: int = 16 * 2**20) -> Iterator[bytes]:
    """The whole file in pieces of `size` bytes. Raises as `read` does."""
    with open_file(location) as file, _local(location):
        while chunk := file.read(size):
            yield chunk


def _all(file: FileIO, count: int) -> bytes:
    """Unbuffered files may give less than was asked for: one call of Linux gives no more than 2 GiB."""
    content = file.read(count) or b""
    while 0 < len(content) < count and (more := file.read(count - len(content))):
        content += more
    return content


def _is_data(name: str) -> bool:
    return "_SUCCESS" not in name and not name.startswith(".")


@contextmanager
def _local(location: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FileMissing(location) from error
    except ValueError as error:  # half a character, or the character 0
        raise DataError(
            f"{location!r} is no name that a file can have", reason=Reason.FILE_MISSING
        ) from error
    except OSError as error:
        raise DataError(
            f"{location}: cannot be read: {error.strerror or error}", reason=Reason.FILE_UNREADABLE
        ) from error
