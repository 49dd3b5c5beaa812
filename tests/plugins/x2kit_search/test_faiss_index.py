"""An index of FAISS beside the table of exact search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from x2kit_search import Faiss

from x2kit.plugin import DataError, Index, IndexSpec, Rows
from x2kit.testing.indexes.rows import made_rows, vectors

SMALL = Faiss(exact_below=20, partitions=4, nprobes=2, refine=4)
SPEC = IndexSpec(16, "float16", {"path": "text", "year": "integer", "quality": "number", "public": "boolean"})


@pytest.mark.conformance(SMALL, rows=300)
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()


def built(folder: Path) -> Index:
    index = SMALL.create(str(folder), SPEC)
    index.upsert(made_rows(0, 200))
    assert index.build().kind == "IVF4,SQ8"
    return index


def test_a_small_table_has_no_index(tmp_path: Path) -> None:
    with Faiss().create(str(tmp_path), SPEC) as index:
        index.upsert(made_rows(0, 200))
        report = index.build()
        assert (report.kind, report.recall, index.stats().kind) == ("exact", None, "exact")
    assert not list(tmp_path.glob("faiss-*"))


def test_the_index_of_other_slots_is_not_used(tmp_path: Path) -> None:
    index = built(tmp_path)
    with Faiss().open(str(tmp_path)) as other:
        other.delete("year < 2010")
        super(type(other), other).compact()  # without building again, as if that was killed
    assert index.stats().kind == "exact"
    queries = vectors(5, seed=3)
    assert index.recall(queries) == 1.0
    index.build()
    assert index.stats().kind == "IVF2,SQ8"
    assert len(list(tmp_path.glob("faiss-*"))) == 1


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    built(tmp_path).close()
    next(tmp_path.glob("faiss-*")).write_bytes(b"no index")
    index = SMALL.open(str(tmp_path))
    with pytest.raises(DataError, match=r"faiss-0-200-\d+\.index: cannot be read; build the index again"):
        index.search(vectors(1), 3)
    assert len(index.search(vectors(1), 3, exact=True)[0]) == 3
    index.build()
    assert len(index.search(vectors(1), 3)[0]) == 3


def test_rows_after_a_build_are_compared_exactly(tmp_path: Path) -> None:
    index = built(tmp_path)
    direction = np.eye(16, dtype=np.float32)[:1]
    index.upsert(Rows(["new"], direction))
    assert index.stats().unindexed == 1
    assert index.search(direction, 1)[0][0].id == "new"
