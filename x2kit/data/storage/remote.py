"""Read remote stores through fsspec, with retries of transient failures. Imports no torch.

Every call looks up its file system: fsspec keeps one a process and shares none across a fork. Credentials, end points
and other options of a store are set by its environment variables or the configuration of fsspec (`~/.config/fsspec`,
`FSSPEC_S3_ANON`), not in a recipe. fsspec is imported with the first URL, not at start-up.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

from x2kit.data.storage.limits import size_error
from x2kit.data.storage.locations import FileInfo, FileMissing
from x2kit.data.storage.url_policy import hosts_of
from x2kit.data.storage.web_files import final_url, is_web, read_body
from x2kit.errors import DataError, Reason

T = TypeVar("T")
_log = logging.getLogger(__name__)
_sleep = time.sleep

ATTEMPTS = 6
"""Attempts of one read."""
FIRST_WAIT = 0.5
"""Seconds before the second attempt; every further wait doubles, 15.5 s in total."""
BLOCK = 8 * 2**20
"""Bytes of one request in a sequential read."""

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "http": "http", "https": "http"}
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_STORES = frozenset({"aiohttp", "aiobotocore", "botocore", "gcsfs", "httpx", "requests", "urllib3"})
"""Packages whose errors come from the network although they are no OSError."""
_VERSIONS = [
    "ETag",
    "etag",
    "generation",
    "blob_id",
    "md5Hash",
    "mtime",
    "LastModified",
    "last_modified",
    "created",
]
"""Keys of fsspec's file information that change with the content."""


def stat(location: str) -> FileInfo:
    """As `x2kit.data.storage.files.stat`."""
    # redirects of a URL in a record are followed in `open_file`
    options = {} if hosts_of(location) is None else {"allow_redirects": False}

    def request(fs: Any, path: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = _without_cache(fs).info(path, **(options if is_web(fs) else {}))
        return found

    return _file(location, _request(location, request))


def list_files(location: str) -> list[FileInfo]:
    """As `x2kit.data.storage.files.list_files`, unsorted and with hidden files."""
    if "*" in location or "[" in location:
        found: Mapping[str, Any] = _request(
            location, lambda fs, path: _without_cache(fs).glob(path, detail=True)
        )
        return _files(location, found)
    try:
        info = _request(location, lambda fs, path: _without_cache(fs).info(path))
        if info["type"] != "directory":
            return [_file(location, info)]
        entries = _request(location, lambda fs, path: fs.ls(path, detail=True))
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

    return _request(location, request)


def read_limited(location: str, limit: int) -> bytes:
    """Read a whole file. Raises DataError as `read`, and above `limit` bytes, which are not read."""

    def request(fs: Any, path: str) -> bytes:
        if is_web(fs):
            return read_body(fs, path, limit=limit, hosts=hosts_of(location))
        try:
            content: bytes = fs.cat_file(path, end=limit + 1)
        except Exception:
            if fs.info(path).get("size") == 0:
                return b""  # stores reject an empty range
            raise
        if len(content) > limit:
            raise size_error(location)
        return content

    return _request(location, request)


def open_file(location: str) -> BinaryIO:
    """As `x2kit.data.storage.files.open_file`."""
    hosts = hosts_of(location)
    if hosts is not None:
        location = _request(location, lambda fs, path: final_url(fs, path, hosts) if is_web(fs) else location)
    return cast(BinaryIO, io.BufferedReader(_RemoteFile(stat(location)), buffer_size=BLOCK))


class _RemoteFile(io.RawIOBase):
    """A file read in ranges, each with its own retries."""

    def __init__(self, file: FileInfo) -> None:
        super().__init__()
        self._file, self._position = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = (
            offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        )
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._file.size)
        content = read(self._file.location, self._position, end)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def _request(location: str, request: Callable[[Any, str], T]) -> T:
    """Send a request to the store, with retries of transient failures."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return request(*_file_system(location))
        except DataError:
            raise
        except FileNotFoundError as error:
            raise FileMissing(location) from error
        except ImportError as error:
            raise DataError(
                f"{location}: {_install_hint(location, error)}", reason=Reason.REMOTE_UNREADABLE
            ) from error
        except Exception as error:  # the libraries of the stores share no base class of errors
            if attempt == ATTEMPTS or not _is_transient(error):
                failure = "cannot be read" if attempt == 1 else f"cannot be read, tried {attempt} times"
                raise DataError(
                    f"{location}: {failure}: {_describe(error)}", reason=Reason.REMOTE_UNREADABLE
                ) from error
            wait = FIRST_WAIT * 2 ** (attempt - 1)
            _log.warning("%s: %s; retrying in %g s", location, _describe(error), wait)
            _sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _file_system(location: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it."""
    import fsspec

    fs, path = fsspec.url_to_fs(location)
    return fs, path


def _is_transient(error: Exception) -> bool:
    """Return whether a retry may succeed."""
    status = getattr(error, "status", None) or getattr(error, "code", None)
    if isinstance(status, int):
        return status in _TRANSIENT_STATUS
    if isinstance(error, _PERMANENT):
        return False
    return (
        isinstance(error, OSError | EOFError | TimeoutError)
        or type(error).__module__.split(".")[0] in _STORES
    )


def _install_hint(location: str, error: ImportError) -> str:
    scheme = urlsplit(location).scheme
    if scheme in _EXTRAS:
        extra = f"x2kit[{_EXTRAS[scheme]}]"
        return f"{scheme}:// needs the extra {_EXTRAS[scheme]!r}, install it with: pip install '{extra}'"
    return f"{scheme}:// needs another package: {error}"


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _without_cache(fs: Any) -> Any:
    """Drop the cached folder listings of a file system; the folders may have changed."""
    fs.invalidate_cache()
    return fs


def _files(location: str, found: Mapping[str, Any]) -> list[FileInfo]:
    fs, _ = _file_system(location)
    return [
        _file(fs.unstrip_protocol(name), info)
        for name, info in found.items()
        if info["type"] == "file" and not name.endswith("/")
    ]


def _file(location: str, info: Mapping[str, Any]) -> FileInfo:
    if info.get("size") is None:
        raise DataError(f"{location}: the server reports no file size", reason=Reason.REMOTE_UNREADABLE)
    version = next((str(info[key]) for key in _VERSIONS if info.get(key)), None)
    return FileInfo(location, int(info["size"]), version)
