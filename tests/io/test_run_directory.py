"""Metrics and lock of a run directory."""

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

from x2kit.cli.run_directory import prepare_run_directory
from x2kit.errors import CheckpointError, StorageError
from x2kit.io.run_directory import LOCK, METRICS, NO_LOCKS, read_metrics, require_unlocked, run_lock

HOLD = """
import multiprocessing, os, sys, time
from pathlib import Path
from x2kit.io.run_directory import run_lock

def work():
    print(os.getpid(), flush=True)
    time.sleep(600)

with run_lock(Path(sys.argv[1])):
    multiprocessing.get_context("fork").Process(target=work).start()
    time.sleep(600)
"""
"""The worker reports itself: it has closed the inherited lock by then, as the parent may not know."""


def test_metrics_are_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.0}\n')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.0}]


def test_an_unfinished_last_line_is_dropped(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.5}]


def test_a_directory_without_metrics_has_none(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []


@contextmanager
def locked_by_another(run: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a process that holds the lock and has a forked worker, which outlives it."""
    with subprocess.Popen([sys.executable, "-c", HOLD, run], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        try:
            yield process
        finally:
            process.kill()
            os.kill(worker, signal.SIGKILL)


def test_a_second_process_is_refused_with_the_holder(tmp_path: Path) -> None:
    with (
        locked_by_another(tmp_path / "run") as other,
        pytest.raises(CheckpointError) as found,
        run_lock(tmp_path / "run"),
    ):
        pass
    assert f"another process is training here: {other.pid} on {os.uname().nodename}" in str(found.value)


def test_a_killed_process_holds_no_lock_though_its_worker_lives(tmp_path: Path) -> None:
    with locked_by_another(tmp_path) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        with run_lock(tmp_path):
            assert (tmp_path / LOCK).read_text().startswith(f"{os.getpid()} on ")


def test_it_can_be_locked_again_after_release(tmp_path: Path) -> None:
    for _ in range(2):
        with run_lock(tmp_path):
            pass
    require_unlocked(tmp_path)


def test_restart_keeps_a_run_that_is_being_trained(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").touch()
    (tmp_path / "versions.json").touch()
    with (
        locked_by_another(tmp_path),
        pytest.raises(CheckpointError, match="another process is training here"),
    ):
        prepare_run_directory(tmp_path, restart=True)
    assert (tmp_path / "recipe.yaml").exists()


def test_restart_keeps_the_directory_of_a_run_that_just_started(tmp_path: Path) -> None:
    with (
        locked_by_another(tmp_path),
        pytest.raises(CheckpointError, match="another process is training here"),
    ):
        prepare_run_directory(tmp_path, restart=True)


def test_a_path_below_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError), run_lock(tmp_path / "file" / "run"):
        pass


@pytest.mark.parametrize("number", NO_LOCKS)
def test_a_file_system_without_locks_gives_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(file: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with run_lock(tmp_path) as warning:
        assert warning is not None
        assert warning.startswith(f"{tmp_path}: this file system has no locks")
    monkeypatch.undo()
    with run_lock(tmp_path) as warning:
        assert warning is None
