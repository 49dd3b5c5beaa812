from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from x2kit.errors import StorageError, WeightsError
from x2kit.io.atomic import (
    atomic_file,
    atomic_folder,
    clear_leftovers,
    delete_folder,
    format_bytes,
    storage_errors,
)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_a_directory_appears_once_complete(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    with atomic_folder(path) as beside:
        (beside / "a").write_text("1")
        assert not path.exists()
    assert (path / "a").read_text() == "1"
    assert leftovers(tmp_path) == []


def test_a_directory_never_appears_if_the_block_raises(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_folder(tmp_path / "weights") as beside:
            (beside / "a").write_text("1")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_replaced_only_by_a_complete_one(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    with atomic_folder(path) as beside:
        (beside / "old").write_text("1")

    def replace(fail: bool) -> None:
        with atomic_folder(path) as beside:
            (beside / "new").write_text("1")
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(fail=True)
    assert [file.name for file in path.iterdir()] == ["old"]
    replace(fail=False)
    assert [file.name for file in path.iterdir()] == ["new"]
    assert leftovers(tmp_path) == []


def test_a_file_appears_once_complete(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "new/a.json") as beside:
        beside.write_text("1")
        assert not (tmp_path / "new/a.json").exists()
    assert (tmp_path / "new/a.json").read_text() == "1"
    assert leftovers(tmp_path / "new") == []


def test_partial_files_of_killed_processes_are_removed_and_named(tmp_path: Path) -> None:
    (tmp_path / ".step-0000002.4711.partial").mkdir()
    (tmp_path / ".step-0000002.4711.partial/state.pt").write_text("half")
    (tmp_path / ".recipe.yaml.4711.partial.yaml").write_text("half")
    (tmp_path / ".gitignore").write_text("not ours")
    said = clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".gitignore"]
    assert said == [
        f"{tmp_path}/.{name}: removed; a process was killed while writing it"
        for name in ("recipe.yaml.4711.partial.yaml", "step-0000002.4711.partial")
    ]


def test_a_directory_is_restored_if_its_replacement_was_killed(tmp_path: Path) -> None:
    (tmp_path / ".weights.4711.old").mkdir()
    (tmp_path / ".weights.4711.old/a").write_text("1")
    (said,) = clear_leftovers(tmp_path)
    assert said == f"{tmp_path}/weights: restored; a process was killed while replacing it"
    assert (tmp_path / "weights/a").read_text() == "1"


def test_a_replaced_directory_is_not_restored(tmp_path: Path) -> None:
    (tmp_path / ".weights.4711.old").mkdir()
    (tmp_path / "weights").mkdir()
    clear_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_a_missing_folder_has_no_leftovers(tmp_path: Path) -> None:
    assert clear_leftovers(tmp_path / "absent") == []


def test_a_deleted_directory_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    delete_folder(tmp_path / "old")
    assert list(tmp_path.iterdir()) == []


def fail(number: int, wrapped: bool = False) -> None:
    cause = OSError(number, os.strerror(number))
    if wrapped:
        raise RuntimeError("a library's own words") from cause
    raise cause


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_full_disk_error_has_bytes_needed_and_free(tmp_path: Path, wrapped: bool) -> None:
    with pytest.raises(StorageError) as error, storage_errors(tmp_path / "state.pt", needs=3 * 2**20):
        fail(errno.ENOSPC, wrapped)
    begin = f"{tmp_path}/state.pt: not written: disk full; 3.0 MiB needed, "
    assert str(error.value).startswith(begin)
    assert str(error.value).endswith(f" free in {tmp_path}")


def test_a_system_error_quoted_in_a_message_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="disk full"), storage_errors(tmp_path / "a"):
        raise ValueError("Error: I/O error: No space left on device (os error 28)")


def test_a_read_only_file_system_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as error, storage_errors(tmp_path / "a"):
        fail(errno.EROFS)
    assert str(error.value) == f"{tmp_path}/a: not written: Read-only file system"


@pytest.mark.parametrize(
    "other", [ValueError("a bug"), FileNotFoundError(2, "no file"), WeightsError("ours")]
)
def test_other_errors_propagate(tmp_path: Path, other: Exception) -> None:
    with pytest.raises(type(other)) as error, storage_errors(tmp_path / "a"):
        raise other
    assert error.value is other


def test_an_error_in_its_own_chain_propagates(tmp_path: Path) -> None:
    error, handled = RuntimeError("a worker is gone"), ValueError("meanwhile")
    error.__context__, handled.__context__ = handled, error
    with pytest.raises(RuntimeError) as found, storage_errors(tmp_path / "a"):
        raise error
    assert found.value is error


def test_bytes_are_formatted_with_binary_units() -> None:
    assert [format_bytes(size) for size in (0, 1023, 1024, 1536, 2**20, 3 * 2**40, 2**50)] == [
        *("0 bytes", "1023 bytes", "1.0 KiB", "1.5 KiB", "1.0 MiB", "3.0 TiB", "1024.0 TiB"),
    ]
