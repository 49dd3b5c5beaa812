"""Index the lines of a text file for random access. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from x2kit.data.storage import files, locations
from x2kit.data.storage.gzip_files import GzipFile, decompressed_chunks, is_gzip
from x2kit.data.storage.index_cache import cached_if_slow
from x2kit.data.storage.limits import check_size
from x2kit.errors import DataError, Reason

_CHUNK = 8 * 2**20
_NEWLINE, _RETURN = ord("\n"), ord("\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineIndex:
    """The non-empty lines of a file, in 8 bytes a line.

    Attributes:
        location: local path or URL.
        digest: 16 bytes, a hash of the content.
    """

    def __init__(self, location: str | Path, cache: bool = False) -> None:
        """Index the lines; the index of a large or remote file is cached, or of any with `cache`.

        Raises: DataError if the file cannot be read, is a JSON list, or needs an extra that is not installed.
        """
        self.location = str(location)
        table = cached_if_slow(self.location, _lines, always=cache)
        runs = int(table[0])
        self.digest = table[1:3].tobytes()
        self._runs = table[3 : 3 + 3 * runs].reshape(3, runs)
        self._ends = table[3 + 3 * runs :]
        self._gzip = GzipFile(self.location) if is_gzip(self.location) else None
        if len(self) and self._content(0, limit=1 + len(_BYTE_ORDER_MARK))[:1] == b"[":
            name = locations.name_of(self.location)
            raise DataError(
                f"{self.location}: a JSON list, expected JSON Lines; write one record a line: jq -c '.[]' {name}"
            )

    def __len__(self) -> int:
        return len(self._ends)

    def number(self, line: int) -> int:
        """Return the number of a line in the file from 1, empty lines counted, by position."""
        first, _, number = self._run(line)
        return number + line - first

    def read(self, line: int) -> bytes:
        """Read a line by position, without its newline. Raises DataError if the file cannot be read."""
        start, end = self._span(line)
        check_size(end - start, "the line")
        return self._content(line)

    def _run(self, line: int) -> tuple[int, int, int]:
        """Return position, first byte and number of the first line of a run without empty lines."""
        run = int(np.searchsorted(self._runs[0], line, side="right")) - 1
        first, start, number = self._runs[:, run].tolist()
        return first, start, number

    def _span(self, line: int) -> tuple[int, int]:
        """Return the bytes of a line."""
        end = int(self._ends[line])
        first, start, _ = self._run(line)
        return (start if line == first else int(self._ends[line - 1]) + 1), end

    def _content(self, line: int, limit: int | None = None) -> bytes:
        """Read a line, or its first `limit` bytes, without a byte order mark."""
        start, end = self._span(line)
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
    """Return the number of runs, the digest, [3, runs] first position, first byte and number of each, and [K] ends."""
    return _table_of(
        decompressed_chunks(location, _CHUNK) if is_gzip(location) else files.chunks(location, _CHUNK)
    )


def _table_of(chunks: Iterable[bytes]) -> NDArray[np.int64]:
    digest = sha256()
    runs, ends = [np.zeros((3, 0), np.int64)], [np.zeros(0, np.int64)]
    kept, lines, start, last = 0, 0, 0, -2  # lines kept and passed, first byte of the next, the last kept
    for found, returns in _newlines(chunks, digest.update):
        starts = np.concatenate([[start], found[:-1] + 1])
        # a line of a carriage return alone is empty, too
        full = np.flatnonzero(found - starts > returns)
        numbers = full + lines
        begins = np.flatnonzero(np.diff(numbers, prepend=last) != 1)
        runs.append(np.stack([begins + kept, starts[full[begins]], numbers[begins] + 1]))
        ends.append(found[full])
        kept, lines, start = kept + len(full), lines + len(found), int(found[-1]) + 1
        last = int(numbers[-1]) if len(full) else last
    table = np.concatenate(runs, axis=1)
    words = np.frombuffer(digest.digest()[:16], np.int64)
    return np.concatenate([[table.shape[1]], words, table.reshape(-1), *ends])


def _newlines(
    chunks: Iterable[bytes], hashed: Callable[[bytes], None]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Yield offsets of newlines and whether a carriage return precedes each; the end of the file counts as one."""
    size, last = 0, 0
    for chunk in chunks:
        hashed(chunk)
        content = np.frombuffer(chunk, np.uint8)
        found = np.flatnonzero(content == _NEWLINE)
        before = content[found - 1]
        if len(found) and found[0] == 0:
            before[0] = last
        if len(found):
            yield found + size, before == _RETURN
        size += len(chunk)
        last = int(content[-1])
    if size and last != _NEWLINE:  # a last line without a newline
        yield np.array([size]), np.array([last == _RETURN])
