"""Index the lines of a text file for random access. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from x2kit.data.storage import files, locations
from x2kit.data.storage.gzip_files import GzipFile, decompressed_chunks, is_gzip
from x2kit.data.storage.index_cache import cached_if_slow
from x2kit.data.storage.limits import check_size
from x2kit.errors import DataError, Reason

_CHUNK = 64 * 2**20
_NEWLINE, _RETURN = ord("\n"), ord("\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineIndex:
    """The non-empty lines of a file.

    Attributes:
        location: local path or URL.
        numbers: [K] int64, the number of each line from 1, empty ones counted.
    """

    def __init__(self, location: str | Path) -> None:
        """Index the lines; the index of a large or remote file is cached.

        Raises: DataError if the file cannot be read, is a JSON list, or needs an extra that is not installed.
        """
        self.location = str(location)
        self._starts, self._ends, self.numbers = cached_if_slow(self.location, _lines)
        self._gzip = GzipFile(self.location) if is_gzip(self.location) else None
        if len(self) and self._content(0, limit=1 + len(_BYTE_ORDER_MARK))[:1] == b"[":
            name = locations.name_of(self.location)
            raise DataError(
                f"{self.location}: a JSON list, expected JSON Lines; write one record a line: jq -c '.[]' {name}"
            )

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, line: int) -> bytes:
        """Read a line by position, without its newline. Raises DataError if the file cannot be read."""
        check_size(int(self._ends[line] - self._starts[line]), "the line")
        return self._content(line)

    def _content(self, line: int, limit: int | None = None) -> bytes:
        """Read a line, or its first `limit` bytes, without a byte order mark."""
        start, end = int(self._starts[line]), int(self._ends[line])
        if limit is not None:
            end = min(end, start + limit)
        # files.read reopens the file: forked workers would share the position of an open handle
        content = self._gzip.read(start, end) if self._gzip else files.read(self.location, start, end)
        if len(content) < end - start:
            raise DataError(
                f"{self.location}: the file has been truncated since it was opened",
                reason=Reason.FILE_UNREADABLE,
            )
        return content.removeprefix(_BYTE_ORDER_MARK) if start == 0 else content


def _lines(location: str) -> NDArray[np.int64]:
    """Return [3, K]: start, end and number of each non-empty line."""
    return _lines_of(
        decompressed_chunks(location, _CHUNK) if is_gzip(location) else files.chunks(location, _CHUNK)
    )


def _lines_of(chunks: Iterable[bytes]) -> NDArray[np.int64]:
    ends, returns = (np.concatenate(parts) for parts in zip(*_newlines(chunks), strict=True))
    starts = np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1] + 1])
    # a line of a carriage return alone is empty, too
    kept = np.flatnonzero(ends - starts > returns)
    return np.stack([starts[kept], ends[kept], kept + 1])


def _newlines(chunks: Iterable[bytes]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield offsets of newlines and whether a carriage return precedes each; the end of the file counts as one."""
    yield np.zeros(0, np.int64), np.zeros(0, np.bool_)
    size, last = 0, 0
    for chunk in chunks:
        content = np.frombuffer(chunk, np.uint8)
        found = np.flatnonzero(content == _NEWLINE)
        before = content[found - 1]
        if len(found) and found[0] == 0:
            before[0] = last
        yield found + size, before == _RETURN
        size += len(chunk)
        last = int(content[-1])
    if size and last != _NEWLINE:  # a last line without a newline
        yield np.array([size]), np.array([last == _RETURN])
