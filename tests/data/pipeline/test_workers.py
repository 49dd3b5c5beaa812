"""Workers end with their block, with an uncaught exception and with a killed main process; errors reach the caller."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from x2kit.data.pipeline.workers import worker_results
from x2kit.errors import DataError

PATIENCE = 60.0
"""Timeout in seconds; ending takes milliseconds, starting Python some seconds."""

PROGRAM = """
import os, sys, time
from pathlib import Path
from x2kit.data.pipeline.workers import worker_results

def slow(key):
    Path(sys.argv[1], str(os.getpid())).touch()
    if key > 1:
        time.sleep(600)
    return key

def results():
    with worker_results(slow, range(10), 2) as found:
        yield from found

def fail():
    kept_alive_by_traceback = results()
    next(kept_alive_by_traceback)
    while len(os.listdir(sys.argv[1])) < 2:
        time.sleep(0.01)
    print("started", flush=True)
    if sys.argv[2] == "raise":
        raise NameError("uncaught")
    time.sleep(600)

fail()
"""


def slow(key: int) -> int:
    """Take minutes for keys from 2 on."""
    if key > 1:
        time.sleep(600)
    return key


def failing(key: int) -> int:
    raise DataError(f"key {key}: broken")


def test_results_are_in_order_and_workers_end_with_the_block() -> None:
    with worker_results(slow, [1, 0, 1], 2) as results:
        assert multiprocessing.active_children()
        assert list(results) == [1, 0, 1]
    assert multiprocessing.active_children() == []


def test_busy_workers_end_with_the_block() -> None:
    with pytest.raises(ZeroDivisionError), worker_results(slow, range(10), 2) as results:
        next(results) / 0
    assert multiprocessing.active_children() == []


def test_an_error_of_x2kit_is_raised_with_its_own_message() -> None:
    with worker_results(failing, [7], 1) as results, pytest.raises(DataError) as error:
        next(results)
    assert str(error.value) == "key 7: broken"


@pytest.mark.parametrize("end", ["raise", "kill"])
def test_workers_end_with_a_process_that_fails_or_is_killed(tmp_path: Path, end: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), end]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        if end == "kill":
            process.send_signal(signal.SIGKILL)
        errors = process.communicate(timeout=PATIENCE)[1]  # also of the workers, which inherit the pipe
    assert ("NameError" in errors) == (end == "raise"), errors
    wait_until(lambda: not any(alive(int(file.name)) for file in tmp_path.iterdir()))


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
