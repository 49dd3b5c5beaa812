"""Where the members of a tar file begin and end, so that any of them can be read alone. Imports no torch.

Members are never unpacked: a name in a shard is a key, not a path, so none can lead out of a folder.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from x2kit.data.storage import files
from x2kit.data.storage.index_cache import remembered_if_slow
from x2kit.data.storage.limits import max_record_bytes, require_few_bytes
from x2kit.errors import DataError, Reason

_DAMAGED = (tarfile.TarError, ValueError, OverflowError, EOFError, IndexError, KeyError, RecursionError)
"""What tarfile raises for headers that are none; OverflowError for sizes beyond all files."""
_CUT = -1
"""Stands for the size of a member that is not whole."""


class Member(NamedTuple):
    """One file in a shard.

    Attributes:
        name: in the shard.
        start: its first byte in the shard.
        size: bytes; None if the shard ends before they do.
    """

    name: str
    start: int
    size: int | None


class MemberIndex:
    """The members of one shard that are regular files, side by side in records; where a shard was cut is a record too.

    Attributes:
        location: of the shard.
        digest: of all that the headers say: names, sizes and times.
    """

    def __init__(self, location: str) -> None:
        """Find the members, reading the shard once; a large or remote one only if it has changed since the last time.

        Raises: DataError if it is unreadable or no tar file.
        """
        self.location = location
        table = remembered_if_slow(location, _table, "tar members")
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
        """Records in the shard."""
        return len(self._first) - 1

    def members(self, record: int) -> list[Member]:
        """The files of a record, in their order. The last one has no name where the shard was cut between files."""
        return [
            self._member(number) for number in range(int(self._first[record]), int(self._first[record + 1]))
        ]

    def _member(self, number: int) -> Member:
        size = int(self._sizes[number])
        name = (
            self._names[self._name_starts[number] : self._name_ends[number]]
            .tobytes()
            .decode(errors="replace")
        )
        return Member(name, int(self._starts[number]), None if size == _CUT else size)

    def read(self, members: Sequence[Member]) -> list[bytes]:
        """The contents of some files of one record; from a remote shard they are read at once.

        Raises: DataError if they are larger than a record may be, or the shard has become shorter or unreadable.
        """
        require_few_bytes(sum(member.size or 0 for member in members), "the record")
        spans = [(member.start, member.start + (member.size or 0)) for member in members]
        first, last = min((start for start, _ in spans), default=0), max((end for _, end in spans), default=0)
        if files.is_url(self.location) and len(spans) > 1 and last - first <= max_record_bytes():
            whole = files.read(self.location, first, last)
            contents = [whole[start - first : end - first] for start, end in spans]
        else:
            contents = [files.read(self.location, start, end) for start, end in spans]
        for member, content in zip(members, contents, strict=True):
            if len(content) != member.size:
                raise cut(self.location, member)
        return contents


def cut(location: str, member: Member) -> DataError:
    """What is said of a shard that ends too early."""
    what = (
        f"in the middle of {member.name}, which begins"
        if member.name
        else "without an end mark, or is damaged,"
    )
    return DataError(
        f"{location}: the shard ends {what} at byte {member.start}; what followed is lost: copy the shard again",
        reason=Reason.SHARD_TRUNCATED,
    )


def key_and_ending(name: str) -> tuple[str, str] | None:
    """`a/7.seg.PNG` is `seg.png` of the record `a/7`; None for names without an ending or with a dot in front."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return (folder + slash + stem, ending.lower()) if stem and ending else None


def _table(location: str) -> NDArray[np.uint8]:
    """All of an index as bytes, so that it can be kept and mapped: counts, numbers, digest, names."""
    digest = blake2b(digest_size=16)
    kept = [
        member for member in _members(location, digest) if member.size is None or key_and_ending(member.name)
    ]
    names = [member.name.encode(errors="replace") for member in kept]
    sizes = [_CUT if member.size is None else member.size for member in kept]
    ends = np.cumsum([0, *map(len, names)], dtype=np.int64)
    first = np.array(_records(kept), np.int64)
    places = np.array([[member.start for member in kept], sizes], np.int64).reshape(-1)
    numbers = np.concatenate([places, ends[:-1], ends[1:], first])
    counts = np.array([len(kept), len(first) - 1], np.int64)
    content = b"".join([counts.tobytes(), numbers.tobytes(), digest.digest(), *names])
    return np.frombuffer(content, np.uint8)


def _records(members: Sequence[Member]) -> list[int]:
    """The first member of each record, and the end. A cut between files belongs to a record that lacks files."""
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
    """Whether the last record has other files than the one before it."""
    if len(first) < 3:
        return len(first) == 2
    before, last = (
        {found[1] for member in members[first[n] : first[n + 1]] if (found := key_and_ending(member.name))}
        for n in (-3, -2)
    )
    return before != last


def _members(location: str, digest: blake2b) -> Iterator[Member]:
    """The regular files, and one without a size where the shard was cut or is damaged: nothing behind can be found."""
    size = files.state(location).size
    if size < tarfile.BLOCKSIZE:
        yield Member("", 0, None)
        return
    place = 0
    with files.open_file(location) as file:
        try:
            archive = tarfile.TarFile(fileobj=file)
            while (entry := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                whole = 0 <= entry.size <= size - entry.offset_data
                if entry.isreg() or not whole:
                    yield Member(entry.name, entry.offset_data, entry.size if whole else None)
                if not whole:
                    return
                digest.update(f"{entry.name}\0{entry.size}\0{entry.mtime}\0".encode(errors="replace"))
                place = archive.offset
        except _DAMAGED as error:
            if place == 0:
                raise DataError(
                    f"{location}: is no tar file ({error}); if it is compressed, unpack it first"
                ) from error
        except OSError as error:
            raise DataError(f"{location}: cannot be read: {error}", reason=Reason.FILE_UNREADABLE) from error
        file.seek(place)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0") or place + tarfile.BLOCKSIZE > size:
            yield Member("", place, None)
