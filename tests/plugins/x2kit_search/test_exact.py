"""Exact search over a SQLite table and a file of vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from x2kit_search import Exact

from x2kit.plugin import DataError, Index, IndexSpec, Rows

SPEC = IndexSpec(4, "float32", {"path": "text"})


@pytest.mark.conformance(Exact())
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()


def filled(folder: Path, count: int = 4) -> Index:
    index = Exact().create(str(folder), SPEC)
    index.upsert(rows(count))
    return index


def rows(count: int) -> Rows:
    ids = [f"row {number}" for number in range(count)]
    return Rows(ids, np.eye(4, dtype=np.float32)[np.arange(count) % 4], {"path": ids})


@pytest.mark.parametrize(
    "where",
    [
        "id IN (SELECT value FROM facts)",
        "(SELECT count(*) FROM rows a, rows b) > 0",
        "id IN (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)",
        "length(randomblob(1000000000)) > 0",
        "load_extension('x.so')",
        "1) UNION SELECT sql, 1 FROM sqlite_master --",
    ],
)
def test_a_condition_reads_columns_and_nothing_else(where: str, tmp_path: Path) -> None:
    index = filled(tmp_path)
    with pytest.raises(DataError, match="invalid condition"):
        index.count(where)
    with pytest.raises(DataError, match="invalid condition"):
        index.delete(where)
    assert index.count() == 4


def test_a_table_is_in_a_local_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"s3://b/x: this index is stored in a local folder; LanceDB also"):
        Exact().create("s3://b/x", SPEC)
    with pytest.raises(DataError, match="no table"):
        Exact().open(str(tmp_path))


def test_vectors_of_a_killed_writer_are_overwritten(tmp_path: Path) -> None:
    index = filled(tmp_path, 2)
    with (tmp_path / "vectors-0.bin").open("ab") as file:
        file.write(b"\xff" * 21)  # NaN, and a part of a vector
    index.upsert(Rows(["after"], np.eye(4, dtype=np.float32)[3:]))
    hits = index.search(np.eye(4, dtype=np.float32)[3:], 1)[0]
    assert [(hit.id, hit.score) for hit in hits] == [("after", 1.0)]


def test_a_cut_off_file_of_vectors_is_named(tmp_path: Path) -> None:
    index = filled(tmp_path)
    file = tmp_path / "vectors-0.bin"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(DataError, match=r"vectors-0\.bin: vectors are missing or cut off"):
        index.search(np.eye(4, dtype=np.float32), 1)


def test_an_open_table_follows_the_compaction_of_another(tmp_path: Path) -> None:
    index = filled(tmp_path)
    assert index.search(np.eye(4, dtype=np.float32)[:1], 1)[0][0].id == "row 0"
    with Exact().open(str(tmp_path)) as other:
        other.delete("id = 'row 0'")
        other.upsert(Rows(["new"], np.eye(4, dtype=np.float32)[:1]))
        other.compact()
    assert not (tmp_path / "vectors-0.bin").exists()
    assert index.search(np.eye(4, dtype=np.float32)[:1], 1)[0][0].id == "new"
    assert (tmp_path / "vectors-1.bin").stat().st_size == 4 * 4 * 4
