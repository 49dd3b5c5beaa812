"""Compare the files of a listing with the rows of a table. Imports no torch.

A file is unchanged if size, time and version are those of its row. Otherwise its content is hashed: only a new hash
is encoded; the vectors of a known one are taken from its row, whatever the path.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from x2kit.plugin.indexes import Index
from x2kit.search.entries import Entry
from x2kit.search.listing import Listing
from x2kit.search.lists import OWN_COLUMNS, fitting


class Known(NamedTuple):
    """Row of a file, without its vector."""

    size: int | None
    mtime: float | None
    version: str | None
    hash: str
    source: str
    gone: bool
    columns: Mapping[str, Any]


@dataclass
class KnownFiles:
    """Files of a table.

    Attributes:
        by_path: row of each file.
        by_hash: a path of each content.
    """

    by_path: dict[str, Known] = field(default_factory=dict)
    by_hash: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """Share of the files: those whose hashed path modulo `count` is `index`."""

    index: int = 0
    count: int = 1

    def has(self, path: str) -> bool:
        """Return whether a file belongs to this part."""
        return self.count == 1 or zlib.crc32(path.encode()) % self.count == self.index


@dataclass
class Changes:
    """Differences of a part of the files.

    Attributes:
        check: new and possibly changed files, whose content decides.
        relabel: unchanged files with new values of columns.
        faults: messages about metadata of unchanged files that does not fit its columns.
        gone: paths of rows whose file is no longer there.
        unchanged: number of files.
    """

    check: list[Entry] = field(default_factory=list)
    relabel: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    unchanged: int = 0


def read_known(table: Index) -> KnownFiles:
    """Read the files of a table, about 1 KiB each in memory."""
    known = KnownFiles()
    own = ("path", "size", "mtime", "version", "hash", "source", "gone")
    others = [name for name in table.spec.columns if name not in OWN_COLUMNS]
    for rows in table.scan([*own, *others]):
        columns = [rows.columns[name] for name in (*own, *others)]
        for path, size, mtime, version, digest, source, gone, *values in zip(*columns, strict=True):
            if path is None or digest is None:
                continue
            fields = dict(zip(others, values, strict=True)) if others else {}
            known.by_path[path] = Known(size, mtime, version, digest, source, bool(gone), fields)
            known.by_hash.setdefault(digest, path)
    return known


def find_changes(
    listing: Listing,
    known: KnownFiles,
    sources: Sequence[str],
    columns: Mapping[str, Any],
    part: Part | None = None,
) -> Changes:
    """Compare a listing with the known files.

    Args:
        listing: files of `sources`.
        known: files of the table.
        sources: absolute folders, shards and lists.
        columns: types of the columns of the table.
        part: share of the files to compare.
    """
    part = part or Part()
    changes = Changes()
    for path, entry in listing.entries.items():
        if not part.has(path):
            continue
        row = known.by_path.get(path)
        if row is None or not _same_version(entry, row):
            changes.check.append(entry)
            continue
        changes.unchanged += 1
        values, faults = fitting(entry.columns, columns)
        changed = {name: value for name, value in values.items() if row.columns.get(name) != value}
        if row.gone:
            changed["gone"] = None
        if changed:
            changes.relabel[path] = changed
        if faults:
            changes.faults[path] = "; ".join(faults)
    kept = tuple(f"{folder}{mark}" for folder in listing.unread for mark in ("/", "#"))
    for path, row in known.by_path.items():
        missing = path not in listing.entries and not row.gone and part.has(path)
        if missing and _is_below(path, row, sources) and not path.startswith(kept):
            changes.gone.append(path)
    return changes


def _same_version(entry: Entry, row: Known) -> bool:
    stamped = entry.mtime is not None or entry.version is not None
    return stamped and (entry.size, entry.mtime, entry.version) == (row.size, row.mtime, row.version)


def _is_below(path: str, row: Known, sources: Sequence[str]) -> bool:
    if row.source in sources:
        return True
    return path.startswith(tuple(f"{source}{mark}" for source in sources for mark in ("/", "#")))
