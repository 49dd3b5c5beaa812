"""Any part of a file that gzip has compressed, without unpacking what stands before it. Imports no torch.

The library indexed_gzip (extra `gzip`) notes, once for a file, the state of the decompressor every few megabytes; from
the note before a place on little has to be unpacked. The notes take 32 KiB each, in every process
that opens the file: 8 MiB for a gigabyte of content.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2kit.data.storage import files
from x2kit.data.storage.index_cache import remembered_if_slow
from x2kit.errors import DataError, Reason

SPACING = 4 * 2**20
"""Bytes of the content between two notes: what is unpacked, on average half of it, for one record."""
_BUFFER = 2**16
_WHAT = f"gzip notes every {SPACING} bytes"


def is_gzip(location: str) -> bool:
    """Whether a file is compressed, by its name."""
    return files.name_of(location).lower().endswith(".gz")


def unpacked(location: str, size: int) -> Iterator[bytes]:
    """The whole content in pieces of `size` bytes. Raises DataError if it is damaged, cut off, or no gzip file."""
    with files.open_file(location) as packed, _readable(location), gzip.GzipFile(fileobj=packed) as content:
        while chunk := content.read(size):
            yield chunk


class GzipFile:
    """One compressed file.

    Args:
        location: of the file.
    Raises: DataError if it is unreadable, or indexed_gzip is not installed.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        notes = remembered_if_slow(location, _notes, _WHAT)
        with _readable(location):
            self._file = _opened(location)
            self._file.import_index(fileobj=io.BytesIO(notes.tobytes()))

    def read(self, start: int, end: int) -> bytes:
        """The bytes of the content from `start` up to, not with, `end`. Raises DataError if they cannot be read."""
        with _readable(self.location):
            content: bytes = self._file.pread(end - start, start)
        return content


def _notes(location: str) -> NDArray[np.uint8]:
    found = io.BytesIO()
    with _readable(location):
        file = _opened(location)
        file.build_full_index()
        file.export_index(fileobj=found)
    return np.frombuffer(found.getvalue(), np.uint8)


def _opened(location: str) -> Any:
    try:
        import indexed_gzip
    except ImportError as error:
        raise DataError(
            f"{location}: compressed records need the extra 'gzip', install it with: pip install 'x2kit[gzip]'; "
            "or unpack the file",
            reason=Reason.FILE_UNREADABLE,
        ) from error
    settings = {"spacing": SPACING, "buffer_size": _BUFFER}
    if files.is_url(location):
        return indexed_gzip.IndexedGzipFile(fileobj=files.open_file(location), **settings)
    # opened anew for every read: forked workers would share the position of one that stays open
    return indexed_gzip.IndexedGzipFile(filename=location, drop_handles=True, **settings)


@contextmanager
def _readable(location: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise files.FileMissing(location) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{location}: cannot be unpacked: {error}; copy it again, or compress it with gzip",
            reason=Reason.FILE_UNREADABLE,
        ) from error
