"""Remote stores through fsspec, with patience: what fails for the moment is tried again. Imports no torch.

File systems are looked up anew for every call: fsspec keeps one for each process and never shares one across a fork.
Credentials, end points and other options of a store are its own affair, set by its environment variables or in
fsspec's own configuration (`~/.config/fsspec`, `FSSPEC_S3_ANON`), never in a recipe.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

import fsspec

from x2kit.data.storage.files import File, FileMissing
from x2kit.data.storage.limits import too_many_bytes
from x2kit.data.storage.url_policy import hosts_of
from x2kit.data.storage.web_files import final_address, is_web, read_body
from x2kit.errors import DataError, Reason

T = TypeVar("T")
_log = logging.getLogger(__name__)

ATTEMPTS = 6
"""How often one read is tried."""
FIRST_WAIT = 0.5
"""Seconds before the second attempt; each later wait is twice as long, so 15.5 s in all."""
BLOCK = 8 * 2**20
"""Bytes that one request fetches where a file is read from front to end."""

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http"}
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_STORES = frozenset({"aiohttp", "aiobotocore", "botocore", "gcsfs", "httpx", "requests", "urllib3"})
"""Packages whose errors come from the network even where they are no OSError."""
_VERSIONS = (
    "ETag",
    "etag",
    "generation",
    "blob_id",
    "md5Hash",
    "mtime",
    "LastModified",
    "last_modified",
    "created",
)


def kind(location: str) -> str | None:
    """`file`, `directory`, or None if nothing is there. Raises DataError if the store cannot be asked."""
    try:
        return str(_ask(location, lambda fs, path: fs.info(path))["type"])
    except FileMissing:
        return None


def state(location: str) -> File:
    """As `x2kit.data.storage.files.state`."""
    # the address of a record has been followed to its end, see `open_file`
    options = {} if hosts_of(location) is None else {"allow_redirects": False}

    def request(fs: Any, path: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = _fresh(fs).info(path, **(options if is_web(fs) else {}))
        return found

    return _file(location, _ask(location, request))


def matching(location: str) -> list[File]:
    """As `x2kit.data.storage.files.matching`, unsorted and with hidden files."""
    if "*" in location or "[" in location:
        found: Mapping[str, Any] = _ask(location, lambda fs, path: _fresh(fs).glob(path, detail=True))
        return _files(location, found)
    try:
        info = _ask(location, lambda fs, path: _fresh(fs).info(path))
        if info["type"] != "directory":
            return [_file(location, info)]
        entries = _ask(location, lambda fs, path: fs.ls(path, detail=True))
    except FileMissing:
        return []
    return _files(location, {entry["name"]: entry for entry in entries})


def read(location: str, start: int = 0, end: int | None = None) -> bytes:
    """As `x2kit.data.storage.files.read`."""
    if end is not None and end <= start:
        return b""

    def request(fs: Any, path: str) -> bytes:
        if is_web(fs):
            return read_body(fs, path, start, end, hosts=hosts_of(location))
        content: bytes = fs.cat_file(path, start=start or None, end=end)
        return content

    return _ask(location, request)


def read_limited(location: str, most: int) -> bytes:
    """A whole file. Raises DataError as `read`, and if it has more than `most` bytes, which are not read."""

    def request(fs: Any, path: str) -> bytes:
        if is_web(fs):
            return read_body(fs, path, most=most, hosts=hosts_of(location))
        try:
            content: bytes = fs.cat_file(path, end=most + 1)
        except Exception:
            if fs.info(path).get("size") == 0:
                return b""  # stores refuse a range of nothing
            raise
        if len(content) > most:
            raise too_many_bytes(location)
        return content

    return _ask(location, request)


def open_file(location: str) -> BinaryIO:
    """As `x2kit.data.storage.files.open_file`."""
    hosts = hosts_of(location)
    if hosts is not None:
        location = _ask(location, lambda fs, path: final_address(fs, path, hosts) if is_web(fs) else location)
    return cast(BinaryIO, io.BufferedReader(_RemoteFile(state(location)), buffer_size=BLOCK))


class _RemoteFile(io.RawIOBase):
    """A file read by ranges, each with its own attempts."""

    def __init__(self, file: File) -> None:
        super().__init__()
        self._file, self._place = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._file.size}[whence]
        )
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        end = min(self._place + len(buffer), self._file.size)
        content = read(self._file.location, self._place, end)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


def _ask(location: str, request: Callable[[Any, str], T]) -> T:
    """Make a request of the store, again after a wait where it fails for the moment."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            fs, path = fsspec.url_to_fs(location)
            return request(fs, path)
        except DataError:
            raise
        except FileNotFoundError as error:
            raise FileMissing(location) from error
        except ImportError as error:
            raise DataError(
                f"{location}: {_remedy(location, error)}", reason=Reason.REMOTE_UNREADABLE
            ) from error
        except Exception as error:  # stores raise what their libraries raise, and nothing in common
            if not _passing(error):
                raise DataError(
                    f"{location}: cannot be read: {_said(error)}", reason=Reason.REMOTE_UNREADABLE
                ) from error
            if attempt == ATTEMPTS:
                raise DataError(
                    f"{location}: cannot be read, tried {ATTEMPTS} times: {_said(error)}",
                    reason=Reason.REMOTE_UNREADABLE,
                ) from error
            wait = FIRST_WAIT * 2 ** (attempt - 1)
            _log.warning("%s: %s; trying again in %g s", location, _said(error), wait)
            _sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _passing(error: Exception) -> bool:
    """Whether a failure may be over in a moment."""
    status = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(status, int):
        return status in _PASSING_STATUS
    if isinstance(error, _FINAL):
        return False
    return (
        isinstance(error, OSError | EOFError | TimeoutError)
        or type(error).__module__.split(".")[0] in _STORES
    )


def _remedy(location: str, error: ImportError) -> str:
    scheme = urlsplit(location).scheme
    if scheme in _EXTRAS:
        extra = f"x2kit[{_EXTRAS[scheme]}]"
        return f"{scheme}:// needs the extra {_EXTRAS[scheme]!r}, install it with: pip install '{extra}'"
    return f"{scheme}:// needs another package: {error}"


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _fresh(fs: Any) -> Any:
    """The file system without what it remembers of folders, which may have changed."""
    fs.invalidate_cache()
    return fs


def _files(location: str, found: Mapping[str, Any]) -> list[File]:
    fs, _ = fsspec.url_to_fs(location)
    return [
        _file(fs.unstrip_protocol(name), info)
        for name, info in found.items()
        if info["type"] == "file" and not name.endswith("/")
    ]


def _file(location: str, info: Mapping[str, Any]) -> File:
    if info.get("size") is None:
        raise DataError(
            f"{location}: the server does not say how large it is", reason=Reason.REMOTE_UNREADABLE
        )
    version = next((str(info[key]) for key in _VERSIONS if info.get(key)), None)
    return File(location, int(info["size"]), version)


def _sleep(seconds: float) -> None:
    time.sleep(seconds)
