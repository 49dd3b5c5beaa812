"""A source of any number of files is opened without opening each, and sees when they change."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from x2kit.data.index import indexed_files, lines
from x2kit.data.index.indexed_files import IndexedFiles
from x2kit.data.index.lines import LineIndex
from x2kit.data.storage import files, index_cache
from x2kit.errors import DataError

FILES = 12


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of 1, 2, … lines, as a large source, of which four may be open at once."""
    monkeypatch.setenv("X2KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index_cache, "CACHED_FROM", 0)
    monkeypatch.setattr(index_cache, "RACY_SECONDS", 0)
    monkeypatch.setattr(indexed_files, "MOST_OPEN", 4)
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(FILES):
        text = "".join(f"{number} {line}\n" for line in range(number + 1))
        (folder / f"{number:02}.jsonl").write_text(text)
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read for their lines, in order."""
    found: list[str] = []
    search = lines._lines
    monkeypatch.setattr(lines, "_lines", lambda path: (found.append(Path(path).stem), search(path))[1])
    return found


def open_all(folder: Path) -> IndexedFiles[LineIndex]:
    return IndexedFiles(files.list_files(str(folder)), LineIndex, "lines")


def read(records: IndexedFiles[LineIndex], number: int) -> str:
    _, index, line = records.locate(number)
    return index.read(line).decode()


def test_records_are_those_of_the_files_in_order(folder: Path) -> None:
    expected = [f"{number} {line}" for number in range(FILES) for line in range(number + 1)]
    for _ in range(2):  # first and cached
        records = open_all(folder)
        assert [read(records, number) for number in range(len(records))] == expected
        assert records.names == [f"{number:02}.jsonl" for number in range(FILES)]


def test_files_are_read_once_and_later_not_even_opened(folder: Path, opened: list[str]) -> None:
    open_all(folder)
    assert sorted(opened) == [f"{number:02}" for number in range(FILES)]
    opened.clear()
    loads: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        load = np.load
        patch.setattr(np, "load", lambda path, **options: (loads.append(path), load(path, **options))[1])
        records = open_all(folder)
        assert len(loads) == 1  # counts and digests of all
        assert records.fingerprint("settings")
        assert len(loads) == 1
        read(records, 0)
        assert len(loads) == 2
    assert opened == []


def test_a_changed_file_alone_is_read_again(folder: Path, opened: list[str]) -> None:
    before = open_all(folder).fingerprint("settings")
    opened.clear()
    (folder / "03.jsonl").write_text("3 0\n3 1\n3 2\n3 x\n")
    assert open_all(folder).fingerprint("settings") != before
    assert opened == ["03"]


def test_no_more_indices_are_open_than_allowed(folder: Path) -> None:
    """A memory-mapped array holds a file descriptor."""
    records = open_all(folder)

    def held() -> int:
        return sum(
            "cache/lines" in os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115
            for number in os.listdir("/proc/self/fd")  # noqa: PTH208
            if os.path.lexists(f"/proc/self/fd/{number}")
        )

    assert [read(records, number) for number in range(len(records))]
    assert held() <= indexed_files.MOST_OPEN + 1  # and the summary


def test_a_file_that_changes_while_the_source_is_open_is_reported(folder: Path) -> None:
    records = open_all(folder)
    with (folder / "11.jsonl").open("a") as more:
        more.write("one more\n")
    for number in range(10):
        read(records, number)  # so that the index of the changed file is not open
    with pytest.raises(DataError, match=r"11\.jsonl: the file has been changed .* 12 records then, 13 now"):
        read(records, len(records) - 1)


def test_the_fingerprint_depends_on_names_contents_and_settings(folder: Path, tmp_path: Path) -> None:
    first = open_all(folder).fingerprint("settings")
    assert open_all(folder).fingerprint("other settings") != first
    moved = folder.rename(tmp_path / "moved")
    assert open_all(moved).fingerprint("settings") == first
    (moved / "00.jsonl").rename(moved / "00a.jsonl")
    assert open_all(moved).fingerprint("settings") != first


def test_the_digest_and_the_lines_do_not_depend_on_the_chunks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "mixed.jsonl"
    file.write_bytes(b"\n\r\none\r\n\n\n\r\ntwo\nthree\n\nfour")
    tables = []
    for size in (1, 2, 3, 5, 2**20):
        monkeypatch.setattr(lines, "_CHUNK", size)
        tables.append(lines._lines(str(file)))
    for table in tables:
        np.testing.assert_array_equal(table, tables[-1])
    index = LineIndex(file)
    found = [(index.number(line), index.read(line)) for line in range(len(index))]
    assert found == [(3, b"one\r"), (7, b"two"), (8, b"three"), (10, b"four")]
