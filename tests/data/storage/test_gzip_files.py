"""Records of gzip-compressed JSON Lines equal those of the plain file."""

from __future__ import annotations

import builtins
import gzip
import json
import multiprocessing
import random
from pathlib import Path
from typing import Any

import fsspec
import pytest

from x2kit.data.index import lines as line_index
from x2kit.data.sources.config import JsonLines
from x2kit.data.sources.json_lines import JsonLinesSource
from x2kit.data.storage import gzip_files, index_cache
from x2kit.errors import DataError, Reason
from x2kit.testing import check_source


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("X2KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index_cache, "CACHED_FROM", 0)
    monkeypatch.setattr(index_cache, "RACY_SECONDS", 0)
    return tmp_path / "cache"


def content(records: int) -> bytes:
    rng = random.Random(0)
    lines = [json.dumps({"caption": f"number {n} {rng.random()}", "image": "a.png"}) for n in range(records)]
    return "\n".join(lines).encode()


def packed(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(map(gzip.compress, parts)))
    return path


def source(path: Path | str) -> JsonLinesSource:
    return JsonLines(files=(path,)).open()


def test_it_meets_the_contract_of_sources(tmp_path: Path, cache: Path) -> None:
    check_source(JsonLines(files=(packed(tmp_path / "a.jsonl.gz", content(30)),)))


def test_records_equal_those_of_the_plain_file(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gzip_files, "SPACING", 2**17)
    whole = content(10_000)
    (tmp_path / "a.jsonl").write_bytes(whole)
    plain = source(tmp_path / "a.jsonl")
    compressed = source(packed(tmp_path / "b.jsonl.gz", whole[:400_001], whole[400_001:]))  # two gzip members
    assert len(compressed) == len(plain) == 10_000
    for index in random.Random(1).sample(range(10_000), 200):
        assert compressed[index]["caption"] == plain[index]["caption"]
    assert compressed.place(7).line == 8


def test_the_file_is_scanned_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.jsonl.gz", content(100))
    first = source(path)[50]
    assert len(list(cache.rglob("*.npy"))) == 2  # lines and gzip states

    def never(*_: Any) -> Any:
        raise AssertionError("read again")

    monkeypatch.setattr(gzip_files, "_build_index", never)
    monkeypatch.setattr(line_index, "_lines", never)
    assert source(path)[50] == first


def test_forked_workers_read_concurrently(tmp_path: Path, cache: Path) -> None:
    opened = source(packed(tmp_path / "a.jsonl.gz", content(3000)))
    expected = [opened[index]["caption"] for index in range(3000)]

    def work(offset: int) -> None:
        found = [opened[(index * 7 + offset) % 3000]["caption"] for index in range(500)]
        assert found == [expected[(index * 7 + offset) % 3000] for index in range(500)]

    forked = multiprocessing.get_context("fork")
    workers = [forked.Process(target=work, args=(offset,)) for offset in (0, 1500)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_a_remote_file_is_read(cache: Path) -> None:
    with fsspec.open("memory://packed/a.jsonl.gz", "wb") as file:
        file.write(gzip.compress(content(50)))
    assert source("memory://packed/a.jsonl.gz")[49]["caption"].startswith("number 49 ")


@pytest.mark.parametrize("damage", ["cut", "changed", "plain", "empty"])
def test_a_damaged_file_is_refused(tmp_path: Path, cache: Path, damage: str) -> None:
    whole = packed(tmp_path / "a.jsonl.gz", content(2000)).read_bytes()
    damaged = {
        "cut": whole[: len(whole) // 2],
        "changed": whole[:5000] + bytes(300) + whole[5300:],
        "plain": content(3),
        "empty": b"",
    }
    (tmp_path / "a.jsonl.gz").write_bytes(damaged[damage])
    with pytest.raises(DataError, match=r"a\.jsonl\.gz") as found:
        source(tmp_path / "a.jsonl.gz")
    assert found.value.reason is Reason.FILE_UNREADABLE


def test_a_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "a.jsonl.gz", content(3))
    usual = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "indexed_gzip":
            raise ImportError(name)
        return usual(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=r"pip install 'x2kit\[gzip\]'"):
        source(path)
