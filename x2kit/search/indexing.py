"""Index folders: encode what is new or changed, copy what is known, mark what is gone. Imports no torch.

Rows are written in batches, each whole or not at all, so that a killed process loses the batch in flight; the next call
encodes what is missing. Several processes may index the same folders, each its part of the files.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from x2kit.data.storage.locations import is_url
from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import DataError
from x2kit.inference.results import InputError
from x2kit.plugin.indexes import ColumnType, Index, IndexSpec
from x2kit.search.binding import BoundModel, LoadOptions, open_bound
from x2kit.search.changes import Changes, KnownFiles, Part, find_changes, read_known
from x2kit.search.encoding import (
    Encoded,
    EncodingOptions,
    Hashed,
    columns_of,
    encode_files,
    read_ahead,
    to_rows,
)
from x2kit.search.entries import Entry
from x2kit.search.listing import Listing, absolute, list_sources
from x2kit.search.lists import OWN_COLUMNS, ListOptions, column_types
from x2kit.search.manifest import (
    FRAMES,
    REGIONS,
    BrokenFiles,
    create_table,
    has_index,
    quoted,
    remember_roots,
    store_config,
)
from x2kit.search.results import IndexReport

if TYPE_CHECKING:
    from x2kit.inference.model import Model

COMMIT_ROWS = 1024
"""Rows of one write."""
COMMIT_SECONDS = 20.0
"""Time after which a smaller batch is written: what a killed process loses."""
_IDS_AT_ONCE = 500

Progress = Callable[[int, int], None]
"""Called with finished and all files to encode."""


@dataclass(frozen=True)
class IndexOptions:
    """Settings of `index_folders`; those of the table apply when it is created.

    Attributes:
        store: component of the table, by name; None for the default one.
        settings: of the component.
        dtype: type of the stored vectors.
        columns: types of metadata columns; None takes the fields of the lists.
        frames: number of frames of each video with a row of their own.
        regions: whether the regions of lists have rows of their own.
        lists: where the paths of lists may lead.
        part: share of the files to index, for several machines; ranks of torchrun divide it further.
        retry_broken: try unreadable files again although they have not changed.
        batch_size: images of one pass of the model.
        workers: decoding threads; None for one each core.
        load: how the model is loaded.
    """

    store: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    dtype: Literal["float16", "float32"] = "float16"
    columns: Mapping[str, ColumnType] | None = None
    frames: int = 0
    regions: bool = False
    lists: ListOptions = field(default_factory=ListOptions)
    part: Part = field(default_factory=Part)
    retry_broken: bool = False
    batch_size: int = 64
    workers: int | None = None
    load: LoadOptions = field(default_factory=LoadOptions)


def index_folders(
    sources: Sequence[str | Path],
    location: str | Path,
    model: Model | str | Path | None = None,
    options: IndexOptions | None = None,
    *,
    progress: Progress | None = None,
    processes: Processes = ALONE,
) -> IndexReport:
    """Bring an index up to date with folders, tar shards and lists, and create it if there is none.

    Args:
        sources: folders, files, shards (.tar), lists (.jsonl, .parquet); local paths or URLs.
        location: folder or URL of the index.
        model: loaded model or its name; None for that of the index.
        options: settings.
        progress: called after each write.
        processes: ranks, which divide the files.
    Raises: DataError for a missing source, an index of another model or of other settings. Unreadable files are
        `broken` of the report.
    """
    began = time.monotonic()
    options = options or IndexOptions()
    location = absolute(location)
    listing = list_sources(sources, options.lists)
    opened = None
    if processes.is_rank_zero:
        opened = _open_or_create(location, model, options, listing)
    processes.wait()
    table, bound, index_id = opened or _open(location, model, options)
    try:
        remember_roots(index_id, listing.roots)
        wanted = {name for entry in listing.entries.values() for name in entry.columns}
        part = Part(
            options.part.index * processes.count + processes.rank, options.part.count * processes.count
        )
        run = _Run(table, bound, options, location, part, progress)
        run.index(listing, [absolute(source) for source in sources])
        reports = processes.gather(run.report(listing, sorted(wanted - set(table.spec.columns)), part))
        report = _joined(reports, time.monotonic() - began)
        if processes.is_rank_zero and report.added + report.updated >= COMMIT_ROWS:
            table.compact()
    finally:
        table.close()
    return report


def _open_or_create(
    location: str, model: Model | str | Path | None, options: IndexOptions, listing: Listing
) -> tuple[Index, BoundModel, str]:
    if has_index(location):
        return _open(location, model, options)
    bound = BoundModel(model, options=options.load)
    config = store_config(options.store, options.settings, options.load.plugins)
    columns = options.columns
    if columns is None:
        columns = column_types(entry.columns for entry in listing.entries.values() if entry.columns)
    facts = {**bound.facts_of_new(), FRAMES: str(options.frames), REGIONS: str(options.regions).lower()}
    spec = IndexSpec(bound().dim, options.dtype, {**columns, **OWN_COLUMNS}, facts)
    create_table(location, config, options.load.plugins, spec).close()
    return _open(location, model if bound.given is None else bound(), options)


def _open(
    location: str, model: Model | str | Path | None, options: IndexOptions
) -> tuple[Index, BoundModel, str]:
    table, bound, index_id = open_bound(location, model, options.load)
    try:
        _check_settings(table.spec, options, location)
    except DataError:
        table.close()
        raise
    return table, bound, index_id


def _check_settings(spec: IndexSpec, options: IndexOptions, location: str) -> None:
    """Raise DataError if other things of a file were encoded before."""
    found = {FRAMES: str(options.frames), REGIONS: str(options.regions).lower()}
    for name, value in found.items():
        before = spec.facts.get(name, value)
        if value not in (before, "0", "false"):  # not given: those of the index
            raise DataError(f"{location}: built with {name} = {before}, found {value}; build another index")


class _Run:
    """One call of `index_folders` in one process."""

    def __init__(
        self,
        table: Index,
        bound: BoundModel,
        options: IndexOptions,
        location: str,
        part: Part,
        progress: Progress | None,
    ) -> None:
        self.table, self.bound, self.options, self.part = table, bound, options, part
        self.location, self.progress = location, progress
        facts = table.spec.facts
        self.encoding = EncodingOptions(
            int(facts.get(FRAMES, "0")),
            facts.get(REGIONS) == "true",
            options.batch_size,
            options.workers,
        )
        self.changes = Changes()
        self.known = KnownFiles()
        self.present: Mapping[str, Entry] = {}
        self.broken: dict[str, str] = {}
        self.counts = dict.fromkeys(("added", "updated", "renamed", "copied", "gone"), 0)
        self._encoded: list[Encoded] = []
        self._copies: list[tuple[Entry, str, str]] = []
        self._touched: list[tuple[Entry, str]] = []
        self._replaced: set[str] = set()
        self._gone: set[str] = set()
        self._finished = self._unmodified = self.total = 0
        self._last = time.monotonic()

    def index(self, listing: Listing, sources: Sequence[str]) -> None:
        """Compare, encode, write, and mark what is gone."""
        self.known = read_known(self.table)
        self.present = listing.entries
        self.changes = find_changes(listing, self.known, sources, self.table.spec.columns, self.part)
        self._relabel(self.changes.relabel)
        self.broken |= {path: f"metadata: {fault}" for path, fault in self.changes.faults.items()}
        self._gone = set(self.changes.gone)
        memory = BrokenFiles(
            self.location, f"{self.part.index}-of-{self.part.count}", self.options.retry_broken
        )
        check = [entry for entry in self.changes.check if not self._is_known_broken(memory, entry)]
        self.total = len(check)
        try:
            for encoded in encode_files(self.bound, self._unknown(read_ahead(check)), self.encoding):
                self._take(encoded, memory)
        except KeyboardInterrupt:
            self._write()
            done, total = self._finished, self.total
            raise KeyboardInterrupt(f"interrupted: {done} of {total} files; run again to continue") from None
        finally:
            memory.save(self.present)
        self._write()
        gone = [path for path in self.changes.gone if path not in self._replaced]
        self._mark_gone(gone)
        self.counts["gone"] = len(gone)

    def report(self, listing: Listing, skipped: list[str], part: Part) -> IndexReport:
        """Build the report of this process; files that were not listed are those of the first part."""
        broken = (listing.broken if part.index == 0 else {}) | self.broken
        errors = [InputError(number, name, text) for number, (name, text) in enumerate(broken.items())]
        others = listing.others if part.index == 0 else 0
        return IndexReport(
            **self.counts,
            unchanged=self.changes.unchanged + self._unmodified,
            broken=errors,
            skipped_columns=skipped,
            others=others,
        )

    def _is_known_broken(self, memory: BrokenFiles, entry: Entry) -> bool:
        message = memory.message(entry)
        if message is not None:
            self.broken[entry.path] = message
        return message is not None

    def _unknown(self, hashed: Iterator[Hashed]) -> Iterator[Hashed]:
        """Yield the files to encode; set aside those whose content the table has."""
        for item in hashed:
            entry, digest = item.entry, item.hash
            row = self.known.by_path.get(entry.path)
            if digest is not None and row is not None and row.hash == digest:
                self._touched.append((entry, digest))
            elif digest is not None and digest in self.known.by_hash:
                self._copies.append((entry, digest, self.known.by_hash[digest]))
            else:
                yield item
                continue
            self._write_if_due()

    def _take(self, encoded: Encoded, memory: BrokenFiles) -> None:
        """Keep an encoded file for the next write, or note why it is broken."""
        entry = encoded.entry
        if encoded.error is not None:
            self._break(entry, encoded.error)
            if not encoded.unread:  # what cannot be read today may be readable tomorrow
                memory.add(entry, encoded.error)
        else:
            self._encoded.append(encoded)
        self._write_if_due()

    def _break(self, entry: Entry, message: str) -> None:
        self.broken[entry.path] = message
        if entry.path in self.known.by_path:  # its vectors are those of earlier content
            self.changes.gone.append(entry.path)

    def _write_if_due(self) -> None:
        rows = sum(len(encoded.ids) for encoded in self._encoded)
        waiting = rows + len(self._copies) + len(self._touched)
        if waiting >= COMMIT_ROWS or (waiting and time.monotonic() - self._last >= COMMIT_SECONDS):
            self._write()

    def _write(self) -> None:
        """Write what is waiting: encoded files, copies, new times of unmodified files."""
        self._write_encoded()
        self._write_copies()
        self._write_touched()
        self._last = time.monotonic()
        if self.progress is not None and self.total:
            self.progress(self._finished, self.total)

    def _write_encoded(self) -> None:
        files = [(encoded, self._columns(encoded.entry, encoded.hash)) for encoded in self._encoded]
        if files:
            self.table.upsert(to_rows(files, self.table.spec.columns))
        for encoded in self._encoded:
            known = self.known.by_path.get(encoded.entry.path)
            self.counts["added" if known is None else "updated"] += 1
            if known is not None:
                self._delete_surplus(encoded.entry.path, encoded.ids)
            self.known.by_hash.setdefault(str(encoded.hash), encoded.entry.path)
        self._finished += len(self._encoded)
        self._encoded = []

    def _write_copies(self) -> None:
        """Write files whose content the table has, with the vectors of the known path."""
        copies, self._copies = self._copies, []
        for start in range(0, len(copies), _IDS_AT_ONCE):
            self._copy(copies[start : start + _IDS_AT_ONCE])
        self._finished += len(copies)

    def _copy(self, copies: Sequence[tuple[Entry, str, str]]) -> None:
        rows = self._rows_of({original for _, _, original in copies})
        files = []
        for entry, digest, original in copies:
            found = Encoded(entry, digest)
            for name, vector, extra in rows.get(original, ()):
                found.ids.append(entry.path + name.removeprefix(original))
                found.vectors.append(vector)
                found.extra.append(extra)
            files.append((found, self._columns(entry, digest)))
        self.table.upsert(to_rows(files, self.table.spec.columns))
        renamed = []
        for entry, _, original in copies:
            if entry.path in self.known.by_path:
                self.counts["updated"] += 1
                self._delete_surplus(entry.path, [name for found, _ in files for name in found.ids])
            elif original not in self.present and self._is_gone(original) and original not in self._replaced:
                renamed.append(original)
                self._replaced.add(original)
            else:
                self.counts["added"] += 1
                self.counts["copied"] += 1
        self.counts["renamed"] += len(renamed)
        if renamed:
            self.table.delete(f"path IN ({', '.join(map(quoted, renamed))})")

    def _is_gone(self, path: str) -> bool:
        """Return whether the file of a row does not exist; a remote one of another folder may."""
        row = self.known.by_path.get(path)
        if row is None:  # written by this run
            return False
        return (
            row.gone
            or path in self._gone
            or (not is_url(path) and "#" not in path and not Path(path).exists())
        )

    def _rows_of(self, paths: set[str]) -> dict[str, list[tuple[str, Any, dict[str, Any]]]]:
        """Read id, vector, frame and box of the rows of files, by path."""
        where = f"path IN ({', '.join(map(quoted, sorted(paths)))})"
        found: dict[str, list[tuple[str, Any, dict[str, Any]]]] = {}
        for rows in self.table.scan(["path", "frame", "box"], where, vectors=True):
            assert rows.vectors is not None
            extras = zip(rows.columns["path"], rows.columns["frame"], rows.columns["box"], strict=True)
            for name, vector, (path, frame, box) in zip(rows.ids, rows.vectors, extras, strict=True):
                found.setdefault(path, []).append((name, vector, {"frame": frame, "box": box}))
        return found

    def _write_touched(self) -> None:
        touched, self._touched = self._touched, []
        self._relabel({entry.path: self._columns(entry, digest) for entry, digest in touched})
        self._unmodified += len(touched)
        self._finished += len(touched)

    def _relabel(self, changed: Mapping[str, Mapping[str, Any]]) -> None:
        """Set columns of all rows of files."""
        if not changed:
            return
        several = self.encoding.frames or self.encoding.regions
        by_names: dict[tuple[str, ...], list[str]] = {}
        for path, values in changed.items():
            by_names.setdefault(tuple(n for n in values if n not in ("frame", "box")), []).append(path)
        for names, paths in by_names.items():
            ids = {path: [path] for path in paths}
            if several:
                ids = {path: [row[0] for row in rows] for path, rows in self._rows_of(set(paths)).items()}
            pairs = [(one, changed[path]) for path, rows in ids.items() for one in rows]
            self.table.update(
                [one for one, _ in pairs], {name: [values[name] for _, values in pairs] for name in names}
            )

    def _mark_gone(self, paths: Sequence[str]) -> None:
        self._relabel({path: {"gone": True} for path in paths})

    def _delete_surplus(self, path: str, ids: Sequence[str]) -> None:
        """Delete the rows of a changed file that its new content does not have, such as later frames."""
        if self.encoding.frames or self.encoding.regions:
            kept = ", ".join(quoted(name) for name in ids if name.startswith(path))
            self.table.delete(f"path = {quoted(path)} AND NOT (id IN ({kept}))")

    def _columns(self, entry: Entry, digest: str | None) -> dict[str, Any]:
        """Return the columns of a file; metadata that does not fit is null, and named in the report."""
        columns, faults = columns_of(entry, digest, self.table.spec.columns)
        if faults:
            self.broken[entry.path] = f"metadata: {'; '.join(faults)}"
        return columns


def _joined(reports: Sequence[IndexReport], seconds: float) -> IndexReport:
    """Add the counts of all ranks."""
    broken = [error for report in reports for error in report.broken]
    return IndexReport(
        **{
            name: sum(getattr(report, name) for report in reports)
            for name in ("added", "updated", "renamed", "gone", "unchanged", "copied", "others")
        },
        broken=[InputError(number, error.name, error.message) for number, error in enumerate(broken)],
        seconds=seconds,
        skipped_columns=reports[0].skipped_columns,
    )
