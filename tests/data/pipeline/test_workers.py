"""Workers end with the block that uses them, with an exception that nobody catches, and with a killed main process."""

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
from torch.utils.data import Dataset

from x2kit.data.pipeline.workers import worker_results

PATIENCE = 60.0
"""Seconds after which something counts as hung; it takes milliseconds, and the start of Python some seconds."""

PROGRAM = """
import os, sys, time
from pathlib import Path
from x2kit.data.pipeline.workers import worker_results

class Slow:
    def __getitem__(self, key):
        Path(sys.argv[1], str(os.getpid())).touch()
        if key > 1:
            time.sleep(600)
        return key

def results():
    with worker_results(Slow(), range(10), 2) as found:
        yield from found

def fail():
    held_by_the_traceback = results()
    next(held_by_the_traceback)
    while len(os.listdir(sys.argv[1])) < 2:
        time.sleep(0.01)
    print("begun", flush=True)
    if sys.argv[2] == "raise":
        raise NameError("nobody catches this")
    time.sleep(600)

fail()
"""


class Slow(Dataset[int]):
    """Its items from 2 on take minutes."""

    def __getitem__(self, key: int) -> int:
        if key > 1:
            time.sleep(600)
        return key


def test_results_are_in_order_and_no_worker_outlives_the_block() -> None:
    with worker_results(Slow(), [1, 0, 1], 2) as results:
        assert multiprocessing.active_children()
        assert list(results) == [1, 0, 1]
    assert multiprocessing.active_children() == []


def test_workers_in_the_middle_of_an_item_end_with_the_block() -> None:
    with pytest.raises(ZeroDivisionError), worker_results(Slow(), range(10), 2) as results:
        next(results) / 0
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("end", ["raise", "kill"])
def test_workers_end_with_a_process_that_fails_or_is_killed(tmp_path: Path, end: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), end]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        if end == "kill":
            process.send_signal(signal.SIGKILL)
        errors = process.communicate(timeout=PATIENCE)[1]  # of the workers too, which inherit the pipe
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
