"""Read any part of a gzip file without decompressing from its start. Imports no torch.

indexed_gzip (extra `gzip`) stores the state of the decompressor every few megabytes, once a file; a read starts at the
nearest stored state. The index takes 32 KiB a state in every process that opens the file: 8 MiB for a gigabyte of
content.
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
from x2kit.data.storage.index_cache import cached_if_slow
from x2kit.data.storage.locations import FileMissing, is_url, name_of
from x2kit.errors import DataError, Reason

SPACING = 4 * 2**20
"""Bytes of content between two stored states; one read decompresses half of it on average."""
_BUFFER = 2**16


def is_gzip(location: str) -> bool:
    """Return whether the file name ends in `.gz`."""
    return name_of(location).lower().endswith(".gz")


def decompressed_chunks(location: str, size: int) -> Iterator[bytes]:
    """Read the whole content in chunks of `size` bytes. Raises DataError if it is damaged or no gzip file."""
    with files.open_file(location) as file, _data_errors(location), gzip.GzipFile(fileobj=file) as content:
        while chunk := content.read(size):
            yield chunk


class GzipFile:
    """A gzip file with random access.

    Args:
        location: local path or URL.
    Raises: DataError if it cannot be read, or indexed_gzip is not installed.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        index = cached_if_slow(location, _build_index, f"gzip states every {SPACING} bytes")
        with _data_errors(location):
            self._file = _open(location)
            self._file.import_index(fileobj=io.BytesIO(index.tobytes()))

    def read(self, start: int, end: int) -> bytes:
        """Read the content from `start` up to, not including, `end`. Raises DataError if it cannot be read."""
        with _data_errors(self.location):
            content: bytes = self._file.pread(end - start, start)
        return content


def _build_index(location: str) -> NDArray[np.uint8]:
    index = io.BytesIO()
    with _data_errors(location):
        file = _open(location)
        file.build_full_index()
        file.export_index(fileobj=index)
    return np.frombuffer(index.getvalue(), np.uint8)


def _open(location: str) -> Any:
    try:
        import indexed_gzip
    except ImportError as error:
        raise DataError(
            f"{location}: gzip files need the extra 'gzip', install it with: pip install 'x2kit[gzip]'; "
            "or decompress the file",
            reason=Reason.FILE_UNREADABLE,
        ) from error
    settings = {"spacing": SPACING, "buffer_size": _BUFFER}
    if is_url(location):
        return indexed_gzip.IndexedGzipFile(fileobj=files.open_file(location), **settings)
    # reopened for every read: forked workers would share the position of an open handle
    return indexed_gzip.IndexedGzipFile(filename=location, drop_handles=True, **settings)


@contextmanager
def _data_errors(location: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FileMissing(location) from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{location}: cannot be decompressed: {error}; copy it again, or compress it with gzip",
            reason=Reason.FILE_UNREADABLE,
        ) from error
