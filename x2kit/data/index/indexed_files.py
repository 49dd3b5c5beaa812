"""Records of many indexed files: none needs to be open, and no memory grows with their records. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from random import Random
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from x2kit.data.index.chain import Chain
from x2kit.data.storage import index_cache
from x2kit.data.storage.index_cache import cached_of_all, is_versioned
from x2kit.data.storage.locations import FileInfo, is_url, relative_names
from x2kit.errors import DataError, Reason

MOST_OPEN = 128
"""Files whose indices are open at once; each maps a file, and a process may often hold 1,024."""


class FileIndex(Protocol):
    """The index of one file."""

    location: str
    """Local path or URL."""
    digest: bytes
    """16 bytes, changes with the content."""

    def __len__(self) -> int:
        """Return the number of records."""
        ...


I = TypeVar("I", bound=FileIndex)


class IndexedFiles(Generic[I]):
    """The records of several files concatenated.

    The indices of a large source are cached. Processes that open it for the first time share the work: each takes the
    files in another order and waits only for files that another is reading.

    Args:
        found: the files, local or remote.
        open_index: indexes a file; its second argument says whether to cache the index whatever the size of the file.
        what: names the kind of index in the cache.
    Raises: DataError if a file cannot be read, or there is no record.

    Attributes:
        locations: paths or URLs of the files.
        names: of the files, independent of the folder of all.
        unversioned: bytes that a hash of all contents would read.
    """

    def __init__(self, found: Sequence[FileInfo], open_index: Callable[[str, bool], I], what: str) -> None:
        locations = [file.location for file in found]
        self.locations, self.names = locations, relative_names(locations)
        self.unversioned = sum(file.size for file in found if not is_versioned(file))
        large = any(map(is_url, locations)) or self.unversioned >= index_cache.CACHED_FROM
        self._open_index, self._cache = open_index, large
        self._index = self._indices()
        if large and len(locations) > MOST_OPEN:
            summary = cached_of_all(found, self._summarise, f"summary of {what}")
        else:
            summary = self._summarise()
        self._chain = Chain(summary[:, 0])
        self._digests = summary[:, 1:]
        if not len(self):
            raise DataError(f"no record in {', '.join(locations)}")

    def __len__(self) -> int:
        return len(self._chain)

    def __iter__(self) -> Iterator[tuple[str, I]]:
        """Yield name and index of each file in order."""
        return ((name, self[file]) for file, name in enumerate(self.names))

    def __getitem__(self, file: int) -> I:
        """Return the index of a file. Raises DataError if its number of records has changed."""
        index = self._index(file)
        expected = int(self._chain.first[file + 1] - self._chain.first[file])
        if len(index) != expected:
            raise DataError(
                f"{index.location}: the file has been changed since the source was opened: {expected} records then, "
                f"{len(index)} now; start again",
                reason=Reason.FILE_UNREADABLE,
            )
        return index

    def locate(self, record: int) -> tuple[str, I, int]:
        """Return name and index of the file of a record, and its position there. Raises IndexError."""
        file, place = self._chain.locate(record)
        return self.names[file], self[file], place

    def fingerprint(self, settings: str) -> str:
        """Hash settings, and names and digests of the files."""
        digest = blake2b(settings.encode(), digest_size=8)
        for name, content in zip(self.names, self._digests, strict=True):
            digest.update(f"\0{name}\0".encode() + content.tobytes())
        return digest.hexdigest()

    def __getstate__(self) -> dict[str, object]:
        """Leave out the open indices, which the receiver opens again."""
        return {name: value for name, value in vars(self).items() if name != "_index"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._index = self._indices()

    def _indices(self) -> Callable[[int], I]:
        """Return a cache of open indices that threads can share, without a reference to itself."""
        open_index, locations, cache = self._open_index, self.locations, self._cache
        return lru_cache(MOST_OPEN)(lambda file: open_index(locations[file], cache))

    def _summarise(self) -> NDArray[np.int64]:
        """Return [files, 3]: number of records and digest of each file."""
        summary = np.zeros((len(self.locations), 3), np.int64)
        order = list(range(len(self.locations)))
        if len(order) > MOST_OPEN:
            Random(os.getpid()).shuffle(order)
        for file in order:
            index = self._index(file)
            summary[file] = len(index), *np.frombuffer(index.digest, np.int64)
        return summary
