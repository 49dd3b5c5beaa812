"""A run directory that a process trains in is refused to every other, until that process is gone."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from x2kit.cli.run_directory import make_room
from x2kit.errors import CheckpointError, StorageError
from x2kit.io.run_directory import LOCK, NO_LOCKS, require_unlocked, run_lock

HOLD = """
import sys, time
from pathlib import Path
from x2kit.io.run_directory import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def held_by_another(run: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", HOLD, run], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_a_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    with (
        held_by_another(tmp_path / "run") as other,
        pytest.raises(CheckpointError) as found,
        run_lock(tmp_path / "run"),
    ):
        pass
    assert f"another process is training here: {other.pid} on {os.uname().nodename}" in str(found.value)


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    with held_by_another(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        with run_lock(tmp_path):
            assert (tmp_path / LOCK).read_text().startswith(f"{os.getpid()} on ")


def test_it_may_be_held_again_after_its_end(tmp_path: Path) -> None:
    for _ in range(2):
        with run_lock(tmp_path):
            pass
    require_unlocked(tmp_path)


def test_restart_deletes_no_run_that_is_being_trained(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").touch()
    (tmp_path / "versions.json").touch()
    with held_by_another(tmp_path), pytest.raises(CheckpointError, match="another process is training here"):
        make_room(tmp_path, restart=True)
    assert (tmp_path / "recipe.yaml").exists()


def test_a_run_that_is_about_to_begin_keeps_its_directory(tmp_path: Path) -> None:
    with held_by_another(tmp_path), pytest.raises(CheckpointError, match="another process is training here"):
        make_room(tmp_path, restart=True)


def test_a_place_where_no_folder_can_be_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError), run_lock(tmp_path / "file" / "run"):
        pass


@pytest.mark.parametrize("number", NO_LOCKS)
def test_a_file_system_without_locks_is_told_and_may_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with run_lock(tmp_path) as told:
        assert (
            told
            == f"{tmp_path}: this file system knows no locks, so a second process here would not be noticed"
        )
    monkeypatch.undo()
    with run_lock(tmp_path) as told:
        assert told is None
