"""Write and read the values of single items beside a result: gzipped JSON Lines. Imports no torch.

The first line describes the file: `format`, `task`, and in `parts` one entry for each language and kind of items, with
its path in the result, its number of items, chance level and number of candidates. Each further line is an item:
`part` and `language`, `id`, `record` where it differs, and its metrics. `zcat FILE | tail -n +2` is JSON Lines that
pandas reads.
"""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from x2kit.errors import X2KitError
from x2kit.io.atomic import atomic_file
from x2kit.io.identity import sha256_of
from x2kit.plugin.toolkit.item_values import ItemValues

FORMAT = "x2kit-items-1"
LONGEST_LINE, MOST_ITEMS = 2**20, 20_000_000
"""Limits of a file that others wrote, which may unpack to any size."""
_DIGITS = 6
"""Decimals of a value."""
_LEVEL = 4
"""Of gzip: 6 takes twice the time and saves a tenth."""


@dataclass
class Part:
    """Values of one language and kind of items, as read.

    Attributes:
        part, language, path: as in `ItemValues`.
        chance: by metric.
        candidates: of a query; None if the items are no queries.
        trained: whether the language was trained with images.
        ids, records: of the items.
        values: [items] float64 by metric; NaN for an item that is not scored.
    """

    part: str
    language: str
    path: str
    chance: Mapping[str, float] = field(default_factory=dict)
    candidates: int | None = None
    trained: bool = False
    ids: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)


def items_file(result: Path, task: str) -> Path:
    """Return the file of a task's items beside a result: evaluation-TASK-items.jsonl.gz."""
    return result.with_name(f"{result.stem}-{task}-items.jsonl.gz")


def write_items(
    file: Path, task: str, parts: Sequence[ItemValues], trained: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the values of a task, atomically; equal ids of a part are numbered.

    Args:
        file: its path.
        task: name of the task in the recipe.
        parts: its values.
        trained: languages that were trained with images.
    Returns: SHA-256 of the file and its number of items, for the result.
    Raises: X2KitError for values that are no finite numbers, or other numbers of ids and values.
    """
    header = {"format": FORMAT, "task": task, "parts": [_described(task, one, trained) for one in parts]}
    with atomic_file(file) as partial, partial.open("wb") as raw:
        # No name and no time, so that equal values are an equal file.
        with gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as packed:
            packed.write(_line(header))
            for one in parts:
                packed.write(b"".join(map(_line, _lines(one))))
        raw.flush()
        digest = sha256_of(partial)
    return {"sha256": digest, "items": sum(len(one.ids) for one in parts)}


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _described(task: str, one: ItemValues, trained: Sequence[str]) -> dict[str, Any]:
    where = f"task {task}: items of {one.path}"
    for name, values in one.values.items():
        if len(values) != len(one.ids):
            raise X2KitError(f"{where}: {len(one.ids)} ids and {len(values)} values of {name}")
        if not all(value is None or math.isfinite(value) for value in values):
            raise X2KitError(f"{where}: values of {name} are not finite numbers")
    if not one.values or (one.records is not None and len(one.records) != len(one.ids)):
        raise X2KitError(
            f"{where}: expected one or more metrics, and a record for each of {len(one.ids)} items"
        )
    return {
        "part": one.part,
        "language": one.language,
        "path": one.path,
        "metrics": list(one.values),
        "items": len(one.ids),
        "chance": dict(one.chance),
        "candidates": one.candidates,
        "trained_with_images": one.language in trained,
    }


def _lines(one: ItemValues) -> Iterator[dict[str, Any]]:
    names = list(one.values)
    records = repeat(None) if one.records is None else one.records
    for id_, record, *values in zip(unique(one.ids), records, *one.values.values(), strict=False):
        line: dict[str, Any] = {"part": one.part, "language": one.language, "id": id_}
        if record is not None and record != id_:
            line["record"] = record
        line.update(zip(names, map(_number, values), strict=True))
        yield line


def _number(value: float | None) -> float | None:
    """Write whole numbers as such, and others with the digits that do not depend on the number of threads."""
    if value is None:
        return None
    return int(value) if value == int(value) else round(value, _DIGITS)


def unique(ids: Sequence[str]) -> list[str]:
    """Number repeated ids from the second on: a, a~2, a~3."""
    if len(set(ids)) == len(ids):
        return list(ids)
    seen: Counter[str] = Counter()
    found = []
    for id_ in ids:
        seen[id_] += 1
        found.append(id_ if seen[id_] == 1 else f"{id_}~{seen[id_]}")
    return found


def read_items(file: Path, sha256: str | None = None) -> list[Part]:
    """Read a file of `write_items`, line by line.

    Args:
        file: its path.
        sha256: of the file, as its result says.
    Raises: X2KitError for a file that is missing, damaged or not that of the result.
    """
    try:
        if sha256 is not None and sha256_of(file) != sha256:
            raise X2KitError(
                f"{file}: is not the file of its result (another SHA-256); evaluate again: x2kit evaluate RUN"
            )
        with gzip.open(file, "rb") as lines:
            return _read(file, _limited(lines))
    except FileNotFoundError as error:
        raise X2KitError(
            f"{file}: missing, but its result names it; evaluate again: x2kit evaluate RUN"
        ) from error
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise X2KitError(
            f"{file}: damaged values of single items ({type(error).__name__}: {error}); evaluate again: "
            "x2kit evaluate RUN"
        ) from error


def _limited(lines: Any) -> Iterator[dict[str, Any]]:
    for count in range(MOST_ITEMS):
        line = lines.readline(LONGEST_LINE + 1)
        if not line:
            return
        if len(line) > LONGEST_LINE:
            raise ValueError(f"line {count + 1} is longer than {LONGEST_LINE:,} bytes")
        yield json.loads(line)
    raise ValueError(f"more than {MOST_ITEMS:,} items")


def _read(file: Path, lines: Iterator[dict[str, Any]]) -> list[Part]:
    header = next(lines, {})
    if header.get("format") != FORMAT:
        raise ValueError(f"its first line has the format {header.get('format')!r}, expected {FORMAT}")
    parts: dict[tuple[str, str], Part] = {}
    columns: dict[tuple[str, str], dict[str, list[float]]] = {}
    for one in header["parts"]:
        key = str(one["part"]), str(one["language"])
        chance = {str(name): float(value) for name, value in one["chance"].items()}
        trained = bool(one["trained_with_images"])
        parts[key] = Part(*key, str(one["path"]), chance, one["candidates"], trained)
        columns[key] = {str(name): [] for name in one["metrics"]}
    for line in lines:
        key = line["part"], line["language"]
        part = parts[key]
        part.ids.append(str(line["id"]))
        part.records.append(str(line.get("record", line["id"])))
        for name, values in columns[key].items():
            value = line[name]
            values.append(math.nan if value is None else float(value))
    for one in header["parts"]:
        if len(parts[one["part"], one["language"]].ids) != one["items"]:
            raise ValueError(f"fewer or more items of {one['path']} than {one['items']}")
    for key, found in columns.items():
        parts[key].values = {name: np.asarray(values) for name, values in found.items()}
    return list(parts.values())
