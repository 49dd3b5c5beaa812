"""Indices and fingerprints of large files are computed once, and again after a change."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from x2kit.data.index import lines as line_index
from x2kit.data.index.lines import LineIndex
from x2kit.data.sources.annotation_config import AnnotationFiles
from x2kit.data.sources.config import JsonLines
from x2kit.data.storage import files, index_cache
from x2kit.data.storage.index_cache import cached, fingerprints_in_form
from x2kit.io.cache import cache_folder
from x2kit.plugin.components import SourceConfig
from x2kit.plugin.sources import Source

CONTENT = "one\n\ntwo\r\n\r\nthree"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file above the size limit of the cache, with a separate cache."""
    monkeypatch.setenv("X2KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index_cache, "CACHED_FROM", 0)
    monkeypatch.setattr(index_cache, "RACY_SECONDS", 0)
    path = tmp_path / "data.jsonl"
    path.write_bytes(CONTENT.encode())
    return path


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were searched for lines."""
    found: list[str] = []
    search = line_index._lines
    monkeypatch.setattr(line_index, "_lines", lambda path: (found.append(path), search(path))[1])
    return found


def content(index: LineIndex) -> list[tuple[int, bytes]]:
    return [(index.number(line), index.read(line)) for line in range(len(index))]


def test_a_second_index_comes_from_the_cache(file: Path, searches: list[str]) -> None:
    first, second = LineIndex(file), LineIndex(file)
    assert searches == [str(file)]
    assert content(first) == content(second) == [(1, b"one"), (3, b"two\r"), (5, b"three")]


def test_a_cached_index_is_memory_mapped_also_by_the_process_that_made_it(file: Path) -> None:
    def find(path: Path) -> np.ndarray:
        return np.zeros(3)

    assert isinstance(cached(file, find), np.memmap)
    assert isinstance(cached(file, find), np.memmap)


def test_an_old_modification_time_does_not_hide_a_change(file: Path, searches: list[str]) -> None:
    then = file.stat().st_mtime_ns
    LineIndex(file)
    file.write_bytes(CONTENT.replace("two", "2 2").encode())
    os.utime(file, ns=(then, then))  # as copies keep it
    assert content(LineIndex(file))[1] == (3, b"2 2\r")
    assert len(searches) == 2


def test_a_file_that_has_just_changed_is_not_cached(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of files are rounded: a later write could have the same."""
    monkeypatch.setattr(index_cache, "RACY_SECONDS", 3600)
    LineIndex(file)
    assert not (cache_folder() / "lines").exists()


def test_a_changed_file_is_indexed_again(file: Path, searches: list[str]) -> None:
    LineIndex(file)
    file.write_bytes(CONTENT.replace("two", "2 2").encode())
    os.utime(file, ns=(0, 0))
    assert content(LineIndex(file))[1] == (3, b"2 2\r")
    assert len(searches) == 2


@pytest.mark.parametrize("damage", [b"", b"nothing of the kind", None], ids=["empty", "foreign", "cut"])
def test_a_damaged_entry_is_replaced(file: Path, searches: list[str], damage: bytes | None) -> None:
    before = content(LineIndex(file))
    (kept,) = (cache_folder() / "lines").iterdir()
    kept.write_bytes(kept.read_bytes()[:-8] if damage is None else damage)
    assert content(LineIndex(file)) == before
    assert content(LineIndex(file)) == before
    assert len(searches) == 2


def test_without_a_writable_cache_the_file_is_indexed_each_time(
    file: Path, searches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X2KIT_CACHE", str(file / "a file is no folder"))
    assert content(LineIndex(file)) == content(LineIndex(file))
    assert len(searches) == 2


def test_a_file_that_grows_while_it_is_read_is_not_cached(file: Path) -> None:
    def find(path: Path) -> np.ndarray:
        with path.open("ab") as more:
            more.write(b"\nfour")
        return np.zeros(1)

    cached(file, find)
    assert not any((cache_folder() / "lines").iterdir())


def test_a_small_file_is_not_cached(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_cache, "CACHED_FROM", len(CONTENT) + 1)
    LineIndex(file)
    assert not cache_folder().exists()


def aged(path: Path, days: float) -> None:
    then = path.stat().st_mtime - days * 24 * 3600
    os.utime(path, (then, then))


def kept_names() -> set[str]:
    return {path.name for path in (cache_folder() / "lines").iterdir()}


def a_day_later() -> None:
    aged(cache_folder() / "lines.cleaned", 1.1)


def test_a_new_entry_deletes_those_unused_for_three_months(file: Path, tmp_path: Path) -> None:
    LineIndex(file)
    (old,) = (cache_folder() / "lines").iterdir()
    left = old.with_name("killed.1.tmp")
    left.write_bytes(b"half")
    for path in (old, left):
        aged(path, 91)
    younger = tmp_path / "younger.jsonl"
    younger.write_bytes(CONTENT.encode())
    a_day_later()
    LineIndex(younger)
    (new,) = kept_names()
    assert new != old.name


def test_a_used_entry_is_not_deleted(file: Path, tmp_path: Path) -> None:
    LineIndex(file)
    (old,) = (cache_folder() / "lines").iterdir()
    aged(old, 91)
    LineIndex(file)  # used
    younger = tmp_path / "younger.jsonl"
    younger.write_bytes(CONTENT.encode())
    a_day_later()
    LineIndex(younger)
    assert old.name in kept_names()
    assert len(kept_names()) == 2


def test_the_cache_is_searched_for_unused_entries_once_a_day(file: Path, tmp_path: Path) -> None:
    """A source of 100,000 shards makes as many entries."""
    LineIndex(file)
    (old,) = (cache_folder() / "lines").iterdir()
    aged(old, 91)
    other = tmp_path / "other.jsonl"
    other.write_bytes(CONTENT.encode())
    LineIndex(other)
    assert old.name in kept_names()


def _index_slowly(path: Path, log: Path) -> None:
    def find(_: Path) -> np.ndarray:
        with log.open("a") as lines:
            lines.write("computed\n")
        time.sleep(0.2)
        return np.arange(3)

    index_cache.RACY_SECONDS, index_cache.CACHED_FROM = 0, 0
    assert cached(path, find).tolist() == [0, 1, 2]


def test_of_several_processes_one_computes_and_the_others_wait(file: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [
        multiprocessing.get_context("fork").Process(target=_index_slowly, args=(file, log)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert log.read_text() == "computed\n"
    assert {path.suffix for path in (cache_folder() / "lines").iterdir()} == {".npy"}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read whole."""
    found: list[str] = []
    chunks = files.chunks
    monkeypatch.setattr(files, "chunks", lambda path, *size: (found.append(path), chunks(path, *size))[1])
    return found


SOURCES: dict[str, Callable[[Path], SourceConfig]] = {
    "lines": lambda folder: JsonLines(files=(str(folder / "*.jsonl"),)),
    "entries": lambda folder: AnnotationFiles(files=(str(folder / "*.jsonl"),)),
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, file: Path) -> Source:
    """Records of two files."""
    for name in ("data", "more"):
        file.with_stem(name).write_text(f'{{"image": "a.png", "caption": "{name}"}}\n' * 3)
    return SOURCES[request.param](file.parent).open()


def test_the_fingerprint_of_unchanged_files_reads_them_once(
    source: Source, file: Path, reads: list[str]
) -> None:
    reads.clear()
    first = source.fingerprint()
    assert sorted(reads) == [str(file), str(file.with_stem("more"))]
    assert source.fingerprint() == first
    assert len(reads) == 2


def test_cached_and_computed_fingerprints_are_equal(
    source: Source, file: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = source.fingerprint()
    monkeypatch.setattr(index_cache, "CACHED_FROM", 2**40)
    assert source.fingerprint() == first


def test_a_new_modification_time_recomputes_the_fingerprint(
    source: Source, file: Path, reads: list[str]
) -> None:
    first = source.fingerprint()
    file.write_bytes(file.read_bytes().replace(b"data", b"DATA"))  # of the same size
    os.utime(file, ns=(0, 0))
    reads.clear()
    assert source.fingerprint() != first
    assert len(reads) == 2


def test_the_fingerprint_depends_on_the_settings(file: Path) -> None:
    file.write_text('{"image": "a.png", "caption": "a"}\n')
    plain, other = (JsonLines(files=(str(file),), language=code).open() for code in (None, "en"))
    assert plain.fingerprint() != other.fingerprint()


def test_many_gigabytes_of_lines_are_hashed_with_the_search_for_lines(
    file: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('{"image": "a.png", "caption": "a"}\n')
    before = JsonLines(files=(str(file),)).open().fingerprint()
    monkeypatch.setattr(index_cache, "DIGESTED_FROM", 0)
    source = JsonLines(files=(str(file),)).open()
    reads.clear()
    now = source.fingerprint()
    assert now != before
    assert reads == []
    with fingerprints_in_form(1):  # that of runs of earlier versions
        assert source.fingerprint() == before
    file.write_text('{"image": "a.png", "caption": "b"}\n')
    assert JsonLines(files=(str(file),)).open().fingerprint() != now
