"""Read lists of files with metadata, JSON Lines and Parquet, and write rows to Parquet. Imports no torch.

A row names its file in the field `image`, `video` or `path`, relative to the folder of the list. Other fields become
columns of the index; `regions` with `bbox` (x, y, width, height in pixels) can be indexed as regions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from x2kit.data.index.lines import LineIndex
from x2kit.data.sources.fields import box_numbers, parse_object, short_repr
from x2kit.data.storage import files
from x2kit.data.storage.locations import FileInfo, folder_of, is_url
from x2kit.data.storage.url_policy import locate
from x2kit.errors import DataError, Reason
from x2kit.inference.results import Rectangle
from x2kit.io.atomic import atomic_file
from x2kit.plugin.indexes import ColumnType, IndexSpec, Rows
from x2kit.search.entries import Entry, kind_of

LIST_ENDINGS = (".jsonl", ".jsonl.gz", ".ndjson", ".parquet")
FILE_KEYS = ("image", "video", "path")
OWN_COLUMNS: dict[str, ColumnType] = {
    "path": "text",
    "source": "text",
    "size": "integer",
    "mtime": "number",
    "modified": "text",
    "version": "text",
    "hash": "text",
    "offset": "integer",
    "frame": "integer",
    "box": "text",
    "gone": "boolean",
}
"""Columns of every index; `modified` is `mtime` as text in UTC, `gone` is true or null."""
_STAT_THREADS = 16

Broken: TypeAlias = tuple[str, str]
"""Name and message."""


@dataclass(frozen=True)
class ListOptions:
    """Where the paths of lists may lead.

    Attributes:
        image_root: folder that paths are relative to and may not leave; by default that of the list.
        image_hosts: scheme and host of allowed URLs, see `x2kit.data.storage.url_policy`.
    """

    image_root: str | None = None
    image_hosts: tuple[str, ...] = ()

    def roots(self, folder: str) -> list[str]:
        """Return the folders and hosts that contain all files of a list in `folder`."""
        return [self.start(folder), *self.image_hosts]

    def start(self, folder: str) -> str:
        """Return the folder that paths are relative to."""
        if self.image_root is None:
            return folder
        return self.image_root if is_url(self.image_root) else str(Path(self.image_root).absolute())


def is_list(location: str) -> bool:
    """Return whether a file is a list, by its ending."""
    return location.lower().endswith(LIST_ENDINGS)


def list_entries(location: str, options: ListOptions) -> Iterator[Entry | Broken]:
    """Yield the files of a list, each once. Raises DataError if the list cannot be read."""

    def entry(row: tuple[str, Mapping[str, Any] | DataError]) -> tuple[str, Entry | str]:
        name, fields = row
        try:
            if isinstance(fields, DataError):
                raise fields
            return name, _entry(fields, location, options)
        except DataError as error:
            return name, str(error)

    rows = _parquet_rows(location) if location.lower().endswith(".parquet") else _json_rows(location)
    seen: dict[str, str] = {}
    with ThreadPoolExecutor(_STAT_THREADS) as pool:  # a remote store answers each question in milliseconds
        for name, found in pool.map(entry, rows):
            if isinstance(found, str):
                yield name, found
            elif (first := seen.setdefault(found.path, name)) != name:
                yield name, f"{found.path} is the file of {first}, too, which counts"
            else:
                yield found


def _entry(fields: Mapping[str, Any], location: str, options: ListOptions) -> Entry:
    key = next((key for key in FILE_KEYS if fields.get(key)), None)
    if key is None:
        found = ", ".join(fields) or "none"
        raise DataError(
            f"no field {', '.join(FILE_KEYS)} with a path; its fields are {found}",
            reason=Reason.FIELD_MISSING,
        )
    value = fields[key]
    if not isinstance(value, str):
        raise DataError(f"{key}: expected a path, found {short_repr(value)}", reason=Reason.FIELD_TYPE)
    start = options.start(folder_of(location))
    path = locate(value, start, options.image_hosts, True, location)
    kind = kind_of(path)
    if kind is None:
        raise DataError(f"{path}: neither an image nor a video, by its ending", reason=Reason.FIELD_TYPE)
    info = files.stat(path)
    mtime = None if is_url(path) else Path(path).stat().st_mtime
    return Entry(
        str.__str__(path) if is_url(path) else str(Path(path)),
        kind,
        location,
        info.size,
        mtime,
        _version(info),
        columns=metadata({name: value for name, value in fields.items() if name != key}),
        boxes=_boxes(fields.get("regions")),
    )


def _version(info: FileInfo) -> str | None:
    return info.version if is_url(info.location) else None


def _boxes(regions: Any) -> tuple[Rectangle, ...]:
    if not isinstance(regions, list):
        return ()
    found = [region["bbox"] for region in regions if isinstance(region, dict) and "bbox" in region]
    boxes = [box_numbers(box, f"regions[{number}].bbox") for number, box in enumerate(found)]
    return tuple((float(x), float(y), float(w), float(h)) for x, y, w, h in boxes)


def metadata(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Convert fields to values of columns: valid names, and lists and mappings as JSON.

    A name that every index has (`size`) becomes `meta_size`.
    """
    values: dict[str, Any] = {}
    for field, value in fields.items():
        name = re.sub(r"[^a-z0-9_]", "_", field.lower())[:58] or "_"
        if name in (*OWN_COLUMNS, "id", "vector") or name[0].isdigit():
            name = f"meta_{name}"
        if not (value is None or isinstance(value, str | bool | int | float)):
            value = json.dumps(value, ensure_ascii=False, default=str)
        values[name] = _plain_text(value) if isinstance(value, str) else value
    return values


def column_types(rows: Iterable[Mapping[str, Any]]) -> dict[str, ColumnType]:
    """Find the types of metadata columns; values of several types make a text column."""
    found: dict[str, set[ColumnType]] = {}
    for row in rows:
        for name, value in row.items():
            kinds = found.setdefault(name, set())
            if value is not None:
                kinds.add(_type_of(value))
    return {name: _common(kinds) for name, kinds in found.items()}


def fitting(fields: Mapping[str, Any], types: Mapping[str, ColumnType]) -> tuple[dict[str, Any], list[str]]:
    """Convert metadata to the types of its columns; fields without a column are left out.

    Returns: values by column, None for one that does not fit; and a message for each of these.
    """
    values, faults = {}, []
    for name, value in fields.items():
        if name in types:
            values[name] = _cast(value, types[name])
            if values[name] is None and value is not None:
                faults.append(f"column {name!r} is of type {types[name]}, found {short_repr(value)}")
    return values, faults


def _cast(value: Any, kind: ColumnType) -> Any:
    """Convert a value to the type of its column; None if it does not fit."""
    if value is None:
        return None
    found = _type_of(value)
    if kind == "text":
        return value if found == "text" else json.dumps(value)
    if kind == "number" and found == "integer":
        return float(value) if abs(value) < 2**1000 else None
    if kind == "integer" and found == "integer" and not -(2**63) <= value < 2**63:
        return None
    return value if found == kind else None


def _plain_text(text: str) -> str:
    """Escape what is no valid text in a database: lone surrogates and null characters."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _type_of(value: Any) -> ColumnType:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "number" if isinstance(value, float) else "text"


def _common(kinds: set[ColumnType]) -> ColumnType:
    if len(kinds) == 1:
        return next(iter(kinds))
    return "number" if kinds == {"integer", "number"} else "text"


def _json_rows(location: str) -> Iterator[tuple[str, Mapping[str, Any] | DataError]]:
    lines = LineIndex(location)
    for line in range(len(lines)):
        name = f"{location}:{lines.number(line)}"
        try:
            yield name, parse_object(lines.read(line))
        except DataError as error:
            yield name, error


def _parquet_rows(location: str) -> Iterator[tuple[str, Mapping[str, Any] | DataError]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(f"{location}: Parquet needs pyarrow: pip install 'x2kit[search]'") from error
    number = 0
    with files.open_file(location) as file:
        try:
            for batch in ParquetFile(file).iter_batches(batch_size=4096):
                for row in batch.to_pylist():
                    yield f"{location} row {number}", row
                    number += 1
        except (ArrowException, OSError) as error:
            raise DataError(f"{location}: not a readable Parquet file: {error}") from error


def write_parquet(
    file: Path, spec: IndexSpec, names: Sequence[str], vectors: bool, parts: Iterable[Rows]
) -> int:
    """Write rows to a Parquet file that appears whole; the facts of the table are its metadata.

    Returns: number of rows.
    Raises: DataError without pyarrow, StorageError if the disk is full.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    except ImportError as error:
        raise DataError("Parquet needs pyarrow: pip install 'x2kit[search]'") from error
    types = {"text": "string", "integer": "int64", "number": "float64", "boolean": "bool_"}
    fields = [("id", pyarrow.string())]
    fields += [(name, getattr(pyarrow, types[spec.columns[name]])()) for name in names]
    if vectors:
        fields.append(("vector", pyarrow.list_(getattr(pyarrow, spec.dtype)(), spec.dim)))
    schema = pyarrow.schema(fields, metadata=dict(spec.facts))
    count = 0
    with atomic_file(file) as partial, ParquetWriter(partial, schema) as writer:
        for rows in parts:
            arrays = [pyarrow.array(rows.ids, pyarrow.string())]
            arrays += [pyarrow.array(rows.columns[name], schema.field(name).type) for name in names]
            if rows.vectors is not None:
                flat = pyarrow.array(rows.vectors.astype(spec.dtype).reshape(-1))
                arrays.append(pyarrow.FixedSizeListArray.from_arrays(flat, spec.dim))
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            count += len(rows)
    return count
