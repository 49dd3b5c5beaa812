"""Files are read the same wherever they are; a store that fails for the moment is asked again."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from x2kit.data.storage import files
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
    """The waits between attempts, none of which is waited for."""
    fsspec.register_implementation("unsteady", Unsteady, clobber=True)
    fsspec.filesystem("memory").pipe("/a.txt", CONTENT)
    Unsteady.faults = []
    seen: list[float] = []
    monkeypatch.setattr(remote_files, "_sleep", seen.append)
    return seen


def names(found: list[files.File]) -> list[str]:
    return [files.name_of(file.location) for file in found]


def test_files_folders_and_patterns_are_found(folder: str) -> None:
    assert names(files.matching(folder)) == ["a.txt", "b.txt"]
    assert names(files.matching(files.join(folder, "[ab].txt"))) == ["a.txt", "b.txt"]
    assert names(files.matching(files.join(folder, "**/c.*"))) == ["c.txt"]
    assert names(files.matching(files.join(folder, ".hidden"))) == [".hidden"]
    assert files.matching(files.join(folder, "none.txt")) == []
    assert files.matching(files.join(folder, "*.none")) == []
    assert files.is_folder(folder)
    assert not files.is_folder(files.join(folder, "a.txt"))
    assert files.exists(files.join(folder, "a.txt"))
    assert not files.exists(files.join(folder, "none.txt"))


def test_what_is_found_can_be_read_whole_in_part_and_in_pieces(folder: str) -> None:
    (location,) = (file.location for file in files.matching(files.join(folder, "a.t*")))
    assert files.state(location).size == len(CONTENT)
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


@pytest.mark.parametrize(
    "read", [files.read, files.state, files.open_file, lambda at: list(files.chunks(at))]
)
def test_a_missing_file_is_named(folder: str, read: Callable[[str], Any]) -> None:
    location = files.join(folder, "none.txt")
    with pytest.raises(files.FileMissing) as caught:
        read(location)
    assert str(caught.value) == f"{location}: no such file"
    assert caught.value.reason is Reason.FILE_MISSING


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
@pytest.mark.parametrize("read", [files.read, files.state, files.open_file])
def test_a_name_that_no_file_can_have_is_told(tmp_path: Path, name: str, read: Callable[[str], Any]) -> None:
    with pytest.raises(DataError, match="is no name that a file can have") as caught:
        read(files.join(str(tmp_path), name))
    assert caught.value.reason is Reason.FILE_MISSING


def test_a_file_written_anew_has_another_version(folder: str) -> None:
    location = files.join(folder, "a.txt")
    before = files.state(location)
    with fsspec.open(location, "wb") as file:
        file.write(CONTENT)
    assert files.state(location).version != before.version


def test_names_are_joined_and_taken_apart() -> None:
    assert files.join("s3://bucket/a/", "./b.jpg") == "s3://bucket/a/b.jpg"
    assert files.join("/a", "b/c.jpg") == "/a/b/c.jpg"
    assert files.join("s3://bucket", "https://x.org/b.jpg") == files.join("/a", "https://x.org/b.jpg")
    assert files.folder_of("s3://bucket/a/b.tar") == "s3://bucket/a"
    assert files.name_of("https://x.org/a/b.tar?key=c/d") == "b.tar"
    assert files.shared_names(["/a/x/1.tar", "/a/y/1.tar"]) == ["x/1.tar", "y/1.tar"]
    assert files.shared_names(["s3://bucket/a/1.tar"]) == ["1.tar"]
    assert not any(map(files.is_url, ("/a/b", "a:b", "C:/a", "")))


@pytest.mark.parametrize(
    "fault",
    [ConnectionResetError("cut off"), TimeoutError(), OSError("SlowDown"), StatusError(503), EOFError()],
)
def test_what_fails_for_the_moment_is_tried_again_after_longer_and_longer_waits(
    waits: list[float], fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    Unsteady.faults = [fault] * 3
    with caplog.at_level(logging.WARNING):
        assert files.read("unsteady://a.txt", 2, 4) == b"23"
    assert waits == [0.5, 1, 2]
    assert "unsteady://a.txt" in caplog.text
    assert "trying again in 2 s" in caplog.text


def test_what_fails_on_and_on_is_told_with_url_and_reason(waits: list[float]) -> None:
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
def test_what_another_attempt_cannot_mend_is_told_at_once(waits: list[float], fault: Exception) -> None:
    Unsteady.faults = [fault]
    with pytest.raises(DataError, match=r"unsteady://a\.txt: cannot be read: "):
        files.read("unsteady://a.txt")
    assert waits == []


def test_each_range_of_a_file_that_is_read_through_has_its_own_attempts(waits: list[float]) -> None:
    with files.open_file("unsteady://a.txt") as file:
        Unsteady.faults = [OSError("SlowDown")] * 5
        assert file.read() == CONTENT
    assert len(waits) == 5


@pytest.mark.parametrize(
    ("url", "package", "extra"), [("s3://b/k", "s3fs", "s3"), ("gs://b/k", "gcsfs", "gs")]
)
def test_a_store_that_is_not_installed_names_the_extra(
    url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(sys.modules["fsspec.registry"], "_registry", {})
    with pytest.raises(
        DataError, match=rf"needs the extra '{extra}', install it with: pip install 'x2kit\[{extra}\]'"
    ):
        files.read(url)


def test_a_scheme_that_nobody_knows_is_told() -> None:
    with pytest.raises(DataError, match=r"xyz://a: cannot be read: .*xyz"):
        files.read("xyz://a")


def test_the_nearest_name_is_looked_for_at_the_first_missing_part(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/parallel.jsonl").touch()
    near = files.nearest_to
    assert near(str(tmp_path / "data/paralel.jsonl")) == f"; nearest: {tmp_path / 'data/parallel.jsonl'}"
    assert near(str(tmp_path / "dta/parallel.jsonl")) == f"; nearest: {tmp_path / 'data'}"
    assert near(str(tmp_path / "data/quite-another")) == ""
    assert near(str(tmp_path / "data/parallel.jsonl/x")) == ""
    assert near("s3://bucket/paralel.jsonl") == ""
    assert near("\0") == ""
