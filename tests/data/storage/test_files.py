"""Local and remote files are read alike; transient failures of a store are retried."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from x2kit.data.storage import files, locations
from x2kit.data.storage import remote as remote_files
from x2kit.errors import DataError, Reason

CONTENT = b"0123456789"


class Unsteady(MemoryFileSystem):  # type: ignore[misc]
    """A store whose next reads fail."""

    protocol = "unsteady"
    faults: list[Exception] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("unsteady:/")))

    def cat_file(self, path: str, *arguments: Any, **options: Any) -> Any:
        if self.faults:
            raise self.faults.pop(0)
        return super().cat_file(path, *arguments, **options)


class StatusError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder with files, here and in a store."""
    for name in ("b.txt", "a.txt", ".hidden", "_SUCCESS", "more/c.txt"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(CONTENT)
    if request.param == "local":
        return str(tmp_path / "data")
    url = f"memory:/{tmp_path}/data"
    fsspec.filesystem("memory").put(str(tmp_path / "data"), f"{tmp_path}/data", recursive=True)
    return url


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which are skipped."""
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    fsspec.filesystem("memory").pipe("/a.txt", CONTENT)
    Unsteady.faults = []
    seen: list[float] = []
    monkeypatch.setattr(remote_files, "_sleep", seen.append)
    return seen


def names(found: list[locations.FileInfo]) -> list[str]:
    return [locations.name_of(file.location) for file in found]


def test_files_folders_and_patterns_are_found(folder: str) -> None:
    assert names(files.list_files(folder)) == ["a.txt", "b.txt"]
    assert names(files.list_files(locations.join(folder, "[ab].txt"))) == ["a.txt", "b.txt"]
    assert names(files.list_files(locations.join(folder, "**/c.*"))) == ["c.txt"]
    assert names(files.list_files(locations.join(folder, ".hidden"))) == [".hidden"]
    assert files.list_files(locations.join(folder, "none.txt")) == []
    assert files.list_files(locations.join(folder, "*.none")) == []


def test_a_file_is_read_whole_in_ranges_and_in_chunks(folder: str) -> None:
    (location,) = (file.location for file in files.list_files(locations.join(folder, "a.t*")))
    assert files.stat(location).size == len(CONTENT)
    assert files.read(location) == CONTENT
    assert files.read(location, 3, 6) == b"345"
    assert files.read(location, 8, 20) == b"89"
    assert files.read(location, 8) == b"89"
    assert files.read(location, 5, 5) == files.read(location, 20, 30) == b""
    assert list(files.chunks(location, 4)) == [b"0123", b"4567", b"89"]
    with files.open_file(location) as file:
        file.seek(-2, 2)
        assert file.read() == b"89"
        file.seek(1)
        assert file.read(2) == b"12"


@pytest.mark.parametrize("read", [files.read, files.stat, files.open_file, lambda at: list(files.chunks(at))])
def test_a_missing_file_is_named(folder: str, read: Callable[[str], Any]) -> None:
    location = locations.join(folder, "none.txt")
    with pytest.raises(locations.FileMissing) as caught:
        read(location)
    assert str(caught.value) == f"{location}: no such file"
    assert caught.value.reason is Reason.FILE_MISSING


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
@pytest.mark.parametrize("read", [files.read, files.stat, files.open_file])
def test_an_invalid_file_name_is_reported(tmp_path: Path, name: str, read: Callable[[str], Any]) -> None:
    with pytest.raises(DataError, match="not a valid file name") as caught:
        read(locations.join(str(tmp_path), name))
    assert caught.value.reason is Reason.FILE_MISSING


def test_a_rewritten_file_has_another_version(folder: str) -> None:
    location = locations.join(folder, "a.txt")
    before = files.stat(location)
    with fsspec.open(location, "wb") as file:
        file.write(CONTENT)
    assert files.stat(location).version != before.version


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert files.is_folder(str(tmp_path))
    assert not files.is_folder(str(tmp_path / "a.txt"))


@pytest.mark.parametrize(
    "fault",
    [ConnectionResetError("cut off"), TimeoutError(), OSError("SlowDown"), StatusError(503), EOFError()],
)
def test_transient_failures_are_retried_with_growing_waits(
    waits: list[float], fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    Unsteady.faults = [fault] * 3
    with caplog.at_level(logging.WARNING):
        assert files.read("unsteady://a.txt", 2, 4) == b"23"
    assert waits == [0.5, 1, 2]
    assert "unsteady://a.txt" in caplog.text
    assert "retrying in 2 s" in caplog.text


def test_a_lasting_failure_is_reported_with_url_and_reason(waits: list[float]) -> None:
    Unsteady.faults = [ConnectionResetError("cut off")] * 99
    with pytest.raises(
        DataError, match=r"unsteady://a\.txt: cannot be read, tried 6 times: .*cut off"
    ) as caught:
        files.read("unsteady://a.txt")
    assert caught.value.reason is Reason.REMOTE_UNREADABLE
    assert sum(waits) == 15.5


@pytest.mark.parametrize(
    "fault", [PermissionError("denied"), StatusError(403), ValueError("no such bucket name")]
)
def test_permanent_failures_are_not_retried(waits: list[float], fault: Exception) -> None:
    Unsteady.faults = [fault]
    with pytest.raises(DataError, match=r"unsteady://a\.txt: cannot be read: "):
        files.read("unsteady://a.txt")
    assert waits == []


def test_every_range_of_a_sequential_read_is_retried(waits: list[float]) -> None:
    with files.open_file("unsteady://a.txt") as file:
        Unsteady.faults = [OSError("SlowDown")] * 5
        assert file.read() == CONTENT
    assert len(waits) == 5


@pytest.mark.parametrize(
    ("url", "package", "extra"), [("s3://b/k", "s3fs", "s3"), ("gs://b/k", "gcsfs", "gs")]
)
def test_a_missing_store_package_names_the_extra(
    url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    known = sys.modules["fsspec.registry"]._registry  # of classes that other tests have used
    monkeypatch.delitem(known, url.partition(":")[0], raising=False)
    with pytest.raises(
        DataError, match=rf"needs the extra '{extra}', install it with: pip install 'x2kit\[{extra}\]'"
    ):
        files.read(url)


def test_an_unknown_scheme_is_reported() -> None:
    with pytest.raises(DataError, match=r"xyz://a: cannot be read: .*xyz"):
        files.read("xyz://a")


def test_the_nearest_name_replaces_the_first_missing_part(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/parallel.jsonl").touch()
    near = files.nearest_hint
    assert near(str(tmp_path / "data/paralel.jsonl")) == f"; nearest: {tmp_path / 'data/parallel.jsonl'}"
    assert near(str(tmp_path / "dta/parallel.jsonl")) == f"; nearest: {tmp_path / 'data'}"
    assert near(str(tmp_path / "data/quite-another")) == ""
    assert near(str(tmp_path / "data/parallel.jsonl/x")) == ""
    assert near("s3://bucket/paralel.jsonl") == ""
    assert near("\0") == ""
