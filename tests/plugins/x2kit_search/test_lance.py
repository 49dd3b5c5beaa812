"""Tables of LanceDB."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import lancedb
import numpy as np
import pyarrow as pa
import pytest
from x2kit_search import Faiss, LanceDB, Qdrant

from x2kit.plugin import DataError, IndexConfig, Rows, SettingError
from x2kit.testing.indexes.rows import SPEC, made_rows, read, vectors

SMALL = LanceDB(exact_below=0, partition_size=80, nprobes=2, keep_minutes=0)


@pytest.mark.conformance(SMALL, rows=300)
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()


def test_several_queries_in_one_pass_give_what_each_gives_alone(tmp_path: Path) -> None:
    queries = vectors(12, seed=3)
    with LanceDB().create(str(tmp_path), SPEC) as index:
        index.upsert(made_rows(0, 200))
        for where in ("", "year > 2010", "year > 3000"):
            alone = [index.search(query[None], 5, where)[0] for query in queries]
            for one, other in zip(index.search(queries, 5, where), alone, strict=True):
                assert [(hit.id, hit.columns) for hit in one] == [(hit.id, hit.columns) for hit in other]
                assert np.allclose([hit.score for hit in one], [hit.score for hit in other], atol=2e-6)


def test_a_table_of_another_program_is_refused(tmp_path: Path) -> None:
    lancedb.connect(tmp_path).create_table("rows", pa.table({"id": ["a"]}))
    with pytest.raises(DataError, match="was not written by x2kit"):
        LanceDB().open(str(tmp_path))
    with pytest.raises(DataError, match="there is a table already"):
        LanceDB().create(str(tmp_path), SPEC)


def test_compaction_removes_old_versions(tmp_path: Path) -> None:
    with SMALL.create(str(tmp_path), SPEC) as index:
        for start in range(0, 100, 10):
            index.upsert(made_rows(start, start + 10))
        files = len(list(tmp_path.rglob("*.lance")))
        index.compact()
        assert len(list(tmp_path.rglob("*.lance"))) < files
        assert index.count() == 100


@pytest.mark.parametrize(
    ("component", "module", "extra"),
    [(LanceDB(), "lancedb", "search"), (Faiss(), "faiss", "faiss"), (Qdrant(), "sqlglot", "qdrant")],
)
def test_a_missing_library_is_named_with_its_extra(
    component: IndexConfig, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("x2kit_search.config.find_spec", lambda name: None if name == module else find(name))
    for call in (component.check, lambda: component.create(str(tmp_path), SPEC), lambda: component.open("x")):
        with pytest.raises(SettingError, match=rf'needs {module}.*pip install "x2kit\[{extra}\]"'):
            call()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Location in an object store of a process of its own, reached by the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        for name, value in {
            "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("pictures")
        yield "s3://pictures/an index"
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int) -> None:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server does not answer")


@pytest.mark.slow
def test_a_table_in_an_object_store(bucket: str) -> None:
    with SMALL.create(bucket, SPEC) as index:
        rows = made_rows(0, 300)
        index.upsert(rows)
        index.upsert(Rows(rows.ids[:1], vectors(1, seed=9)))
        with pytest.raises(DataError, match="there is a table already"):
            SMALL.create(bucket, SPEC)
        assert index.build().recall is not None
        index.compact()
    with SMALL.open(bucket) as again:
        assert again.count() == 300
        assert again.delete("year >= 2000") > 0
        assert (again.stats().bytes or 0) > 0
        hits = again.search(vectors(1), 3)[0]
        assert {hit.id for hit in hits} <= set(read(again))
    assert not os.path.exists("s3:")  # noqa: PTH110
