"""Where the lines of a text file begin and end, so that any of them can be read alone. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from x2kit.data.storage import files
from x2kit.data.storage.gzip_files import GzipFile, is_gzip, unpacked
from x2kit.data.storage.index_cache import remembered_if_slow
from x2kit.data.storage.limits import require_few_bytes
from x2kit.errors import DataError, Reason

_CHUNK = 64 * 2**20
_NEWLINE, _RETURN = ord("\n"), ord("\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineIndex:
    """The lines of one file, empty ones left out.

    Attributes:
        location: of the file.
        numbers: [K] int64, the number of each line, counted from 1 with the empty ones.
    """

    def __init__(self, location: str | Path) -> None:
        """Find the lines, reading the file once; a large or remote one only if it has changed since the last time.

        Raises: DataError if it is unreadable or one JSON list, or needs an extra that is not installed.
        """
        self.location = str(location)
        self._starts, self._ends, self.numbers = remembered_if_slow(self.location, _lines)
        self._packed = GzipFile(self.location) if is_gzip(self.location) else None
        if len(self) and self._content(0, most=1 + len(_BYTE_ORDER_MARK))[:1] == b"[":
            name = files.name_of(self.location)
            raise DataError(
                f"{self.location}: is one JSON list, not JSON Lines; write one record a line: jq -c '.[]' {name}"
            )

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, line: int) -> bytes:
        """Line `line` of those kept, without its end. Raises DataError if the file is no longer readable."""
        require_few_bytes(int(self._ends[line] - self._starts[line]), "the line")
        return self._content(line)

    def _content(self, line: int, most: int | None = None) -> bytes:
        """A line, or its first `most` bytes, a byte order mark included."""
        start, end = int(self._starts[line]), int(self._ends[line])
        if most is not None:
            end = min(end, start + most)
        # opened anew: a handle that forked workers share would also share its position
        packed = self._packed
        content = files.read(self.location, start, end) if packed is None else packed.read(start, end)
        if len(content) < end - start:
            raise DataError(
                f"{self.location}: has become shorter since it was opened", reason=Reason.FILE_UNREADABLE
            )
        return content.removeprefix(_BYTE_ORDER_MARK) if start == 0 else content


def _lines(location: str) -> NDArray[np.int64]:
    """[3, K]: first byte, end and number of each line that is not empty."""
    return _lines_of(unpacked(location, _CHUNK) if is_gzip(location) else files.chunks(location, _CHUNK))


def _lines_of(chunks: Iterable[bytes]) -> NDArray[np.int64]:
    ends, returns = (np.concatenate(parts) for parts in zip(*_newlines(chunks), strict=True))
    starts = np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1] + 1])
    # a line with nothing but the carriage return of a Windows line end is empty too
    kept = np.flatnonzero(ends - starts > returns)
    return np.stack([starts[kept], ends[kept], kept + 1])


def _newlines(chunks: Iterable[bytes]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Offsets of all newline characters, and whether a carriage return stands before; the file's end is one too."""
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
    if size and last != _NEWLINE:  # the last line need not end in a newline
        yield np.array([size]), np.array([last == _RETURN])
