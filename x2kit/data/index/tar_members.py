"""Index the members of a tar file for random access. Imports no torch.

Members are never extracted: their names are keys, not paths, so none can leave a folder.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from x2kit.data.storage import files, locations
from x2kit.data.storage.index_cache import cached_if_slow
from x2kit.data.storage.limits import check_size, max_record_bytes
from x2kit.errors import DataError, Reason

_DAMAGED = (tarfile.TarError, ValueError, OverflowError, EOFError, IndexError, KeyError, RecursionError)
"""Errors of tarfile for invalid headers; OverflowError for impossible sizes."""
_TRUNCATED = -1
"""Stored size of a truncated member."""


class Member(NamedTuple):
    """A file in a shard.

    Attributes:
        name: name in the shard.
        start: offset of its first byte.
        size: in bytes; None if the shard ends before the file.
    """

    name: str
    start: int
    size: int | None


class MemberIndex:
    """The regular files of a shard, grouped into records; a truncation is a record, too.

    Attributes:
        location: local path or URL.
        digest: hash of names, sizes and times in the headers.
    """

    def __init__(self, location: str, cache: bool = False) -> None:
        """Index the members; the index of a large or remote shard is cached, or of any with `cache`.

        Raises: DataError if the shard cannot be read or is no tar file.
        """
        self.location = location
        table = cached_if_slow(location, _table, "tar members", always=cache)
        members, records = (int(count) for count in table[:16].view(np.int64))
        numbers = table[16 : 16 + 8 * (4 * members + records + 1)].view(np.int64)
        self._starts, self._sizes, self._name_starts, self._name_ends = numbers[: 4 * members].reshape(
            4, members
        )
        self._first = numbers[4 * members :]
        rest = table[16 + numbers.nbytes :]
        self.digest = rest[:16].tobytes()
        self._names = rest[16:]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._first) - 1

    def members(self, record: int) -> list[Member]:
        """Return the files of a record in order. The last has no name if the shard ends between files."""
        return list(map(self._member, range(int(self._first[record]), int(self._first[record + 1]))))

    def _member(self, number: int) -> Member:
        size = int(self._sizes[number])
        name = self._names[self._name_starts[number] : self._name_ends[number]].tobytes()
        return Member(
            name.decode(errors="replace"), int(self._starts[number]), None if size == _TRUNCATED else size
        )

    def read(self, members: Sequence[Member]) -> list[bytes]:
        """Read files of a record; one request reads them from a remote shard.

        Raises: DataError if they exceed the size limit, or the shard has been truncated or cannot be read.
        """
        check_size(sum(member.size or 0 for member in members), "the record")
        spans = [(member.start, member.start + (member.size or 0)) for member in members]
        first, last = min((start for start, _ in spans), default=0), max((end for _, end in spans), default=0)
        if locations.is_url(self.location) and len(spans) > 1 and last - first <= max_record_bytes():
            content = files.read(self.location, first, last)
            contents = [content[start - first : end - first] for start, end in spans]
        else:
            contents = [files.read(self.location, start, end) for start, end in spans]
        for member, content in zip(members, contents, strict=True):
            if len(content) != member.size:
                raise truncated(self.location, member)
        return contents


def truncated(location: str, member: Member) -> DataError:
    """Build the error for a shard that ends too early."""
    where = f"in {member.name}, which begins" if member.name else "without an end mark, or is damaged,"
    return DataError(
        f"{location}: the shard ends {where} at byte {member.start}; later records are lost: copy the shard again",
        reason=Reason.SHARD_TRUNCATED,
    )


def key_and_ending(name: str) -> tuple[str, str] | None:
    """Split `a/7.seg.PNG` into `a/7` and `seg.png`; None without an ending or with a leading dot."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return (folder + slash + stem, ending.lower()) if stem and ending else None


def _table(location: str) -> NDArray[np.uint8]:
    """Serialise an index to bytes for the cache: counts, numbers, digest, names."""
    digest = blake2b(digest_size=16)
    kept = [
        member for member in _members(location, digest) if member.size is None or key_and_ending(member.name)
    ]
    names = [member.name.encode(errors="replace") for member in kept]
    sizes = [_TRUNCATED if member.size is None else member.size for member in kept]
    ends = np.cumsum([0, *map(len, names)], dtype=np.int64)
    first = np.array(_records(kept), np.int64)
    places = np.array([[member.start for member in kept], sizes], np.int64).reshape(-1)
    numbers = np.concatenate([places, ends[:-1], ends[1:], first])
    counts = np.array([len(kept), len(first) - 1], np.int64)
    content = b"".join([counts.tobytes(), numbers.tobytes(), digest.digest(), *names])
    return np.frombuffer(content, np.uint8)


def _records(members: Sequence[Member]) -> list[int]:
    """Return the first member of each record, and the end. A truncation belongs to a record that lacks files."""
    first: list[int] = []
    last: str | None = None
    for number, member in enumerate(members):
        found = key_and_ending(member.name)
        if found is None and _lacks_files(members, [*first, number]):
            continue
        if found is None or found[0] != last:
            first.append(number)
        last = None if found is None else found[0]
    return [*first, len(members)]


def _lacks_files(members: Sequence[Member], first: Sequence[int]) -> bool:
    """Return whether the last record has other files than the one before."""
    if len(first) < 3:
        return len(first) == 2
    before, last = (
        {found[1] for member in members[first[n] : first[n + 1]] if (found := key_and_ending(member.name))}
        for n in (-3, -2)
    )
    return before != last


def _members(location: str, digest: blake2b) -> Iterator[Member]:
    """Yield the regular files, and one without a size where the shard is truncated or damaged."""
    size = files.stat(location).size
    if size < tarfile.BLOCKSIZE:
        yield Member("", 0, None)
        return
    place = 0
    with files.open_file(location) as file:
        try:
            archive = tarfile.TarFile(fileobj=file)
            while (entry := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # drop the list of all members
                complete = 0 <= entry.size <= size - entry.offset_data
                if entry.isreg() or not complete:
                    yield Member(entry.name, entry.offset_data, entry.size if complete else None)
                if not complete:
                    return
                digest.update(f"{entry.name}\0{entry.size}\0{entry.mtime}\0".encode(errors="replace"))
                place = archive.offset
        except _DAMAGED as error:
            if place == 0:
                raise DataError(
                    f"{location}: not a tar file ({error}); if it is compressed, decompress it first"
                ) from error
        except OSError as error:
            raise DataError(f"{location}: cannot be read: {error}", reason=Reason.FILE_UNREADABLE) from error
        file.seek(place)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0") or place + tarfile.BLOCKSIZE > size:
            yield Member("", place, None)
