"""Fixed rows with hostile ids and nulls, and how they are read back. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from x2kit.plugin.indexes import Index, IndexSpec, Rows

DIM = 16
BATCH = 40
"""Rows that another process writes at a time."""
SPEC = IndexSpec(
    DIM,
    "float32",
    {"path": "text", "year": "integer", "quality": "number", "public": "boolean"},
    {"model": "a model of the conformance kit", "note": "袖 'quoted'"},
)
HOSTILE = (
    "plain",
    "it's",
    'a "double" quote',
    "'; DROP TABLE rows; --",
    "line\nbreak and\ttab",
    "back\\slash % _ ?",
    "袖 ärmel 👕",
    "e\u0301 is not é",
    "x" * 3000,
    " space ",
)


def vectors(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    """Draw unit vectors [count, dim] around a few directions."""
    draw = np.random.default_rng(seed)
    centers = np.random.default_rng(1).standard_normal((8, dim))
    found = centers[draw.integers(8, size=count)] + 0.5 * draw.standard_normal((count, dim))
    unit: np.ndarray = (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
    return unit


def values(number: int) -> dict[str, Any]:
    """Return the columns of a row, some of them null."""
    return {
        "path": None if number % 11 == 5 else f"Album {number % 3}/{HOSTILE[number % len(HOSTILE)]}.jpg",
        "year": None if number % 7 == 3 else 2000 + number % 20,
        "quality": None if number % 5 == 4 else number / 8 - 3,
        "public": None if number % 6 == 1 else number % 2 == 0,
    }


def made_rows(start: int, stop: int, prefix: str = "row") -> Rows:
    """Make rows with the numbers from `start` to `stop`; their ids are hostile strings with the number."""
    numbers = range(start, stop)
    columns = [values(number) for number in numbers]
    return Rows(
        [name_of(number, prefix) for number in numbers],
        vectors(stop)[start:],
        {name: [row[name] for row in columns] for name in SPEC.columns},
    )


def name_of(number: int, prefix: str = "row") -> str:
    """Return the id of a row."""
    return f"{prefix}{number:06d} {HOSTILE[number % len(HOSTILE)]}"


def read(index: Index, where: str = "", vectors: bool = False) -> dict[str, dict[str, Any]]:
    """Return columns, and the vector if asked for, by id. Raises AssertionError for a repeated id."""
    found: dict[str, dict[str, Any]] = {}
    for rows in index.scan(tuple(index.spec.columns), where, vectors, batch=37):
        for place, name in enumerate(rows.ids):
            if name in found:
                raise AssertionError(f"scan() gives the row {name!r} twice")
            found[name] = {column: rows.columns[column][place] for column in index.spec.columns}
            if vectors and rows.vectors is not None:
                found[name]["vector"] = rows.vectors[place]
    return found


def columns_by_id(rows: Rows) -> dict[str, Mapping[str, Any]]:
    """Return the columns of written rows by id."""
    return {
        name: {column: values[place] for column, values in rows.columns.items()}
        for place, name in enumerate(rows.ids)
    }
