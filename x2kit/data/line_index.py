"""Where the lines of a text file begin and end, so that any of them can be read alone. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index_cache import remembered
from x2kit.errors import DataError

REMEMBERED_FROM = 16 * 2**20
"""Bytes of a file from which on its lines are remembered; smaller ones are read in no time."""

_CHUNK = 64 * 2**20
_NEWLINE = ord("\n")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineIndex:
    """The lines of one file, empty ones left out.

    Attributes:
        path: the file.
        numbers: [K] int64, the number of each line, counted from 1 with the empty ones.
    """

    def __init__(self, path: Path) -> None:
        """Find the lines, reading the file once; a large one only if it has changed since the last time.

        Raises: DataError if it is unreadable or one JSON list.
        """
        self.path = path
        try:
            large = path.stat().st_size >= REMEMBERED_FROM
            lines = remembered(path, _lines) if large else _lines(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        self._starts, self._ends, self.numbers = lines
        if len(self) and self.read(0)[:1] == b"[":
            raise DataError(
                f"{path}: is one JSON list, not JSON Lines; write one record a line: jq -c '.[]' {path.name}"
            )

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, line: int) -> bytes:
        """Line `line` of those kept, without its end. Raises DataError if the file is no longer readable."""
        start, end = int(self._starts[line]), int(self._ends[line])
        try:
            # opened anew: a handle that forked workers share would also share its position
            with self.path.open("rb") as file:
                file.seek(start)
                content = file.read(end - start)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        if len(content) < end - start:
            raise DataError(f"{self.path}: has become shorter since it was opened")
        return content.removeprefix(_BYTE_ORDER_MARK) if start == 0 else content


def _lines(path: Path) -> NDArray[np.int64]:
    """[3, K]: first byte, end and number of each line that is not empty."""
    ends = _newlines(path)
    size = path.stat().st_size
    if size and (not len(ends) or ends[-1] != size - 1):
        ends = np.append(ends, size)  # the last line need not end in a newline
    starts = np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1] + 1])
    kept = np.flatnonzero(~_empty(path, starts, ends))
    return np.stack([starts[kept], ends[kept], kept + 1])


def _newlines(path: Path) -> NDArray[np.int64]:
    """Offsets of all newline characters."""
    found = [np.zeros(0, np.int64)]
    offset = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.append(np.flatnonzero(np.frombuffer(chunk, np.uint8) == _NEWLINE) + offset)
            offset += len(chunk)
    return np.concatenate(found)


def _empty(path: Path, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[K] bool: lines with nothing in them, or nothing but the carriage return of a Windows line end."""
    lengths = ends - starts
    empty = lengths == 0
    with path.open("rb") as file:
        for line in np.flatnonzero(lengths == 1):
            file.seek(int(starts[line]))
            empty[line] = file.read(1) == b"\r"
    return np.asarray(empty)
