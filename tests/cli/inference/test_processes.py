"""Real processes: streaming, closed pipes and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.model import tiny

Start = Callable[..., "subprocess.Popen[str]"]
RED = "pictures/red.png\n"


@pytest.fixture
def start(folder: Path, model: str, pictures: Path) -> Iterator[Start]:
    """Start a subcommand over standard input, on one image at a time."""
    started = []
    # A shell starts what runs in the background with Ctrl-C ignored, and pytest would pass that on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(subcommand: str, *options: str, **streams: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "x2kit", subcommand, "-", model, "--plugin", tiny.__file__]
        pipes: dict[str, Any] = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": ""}
        started.append(
            subprocess.Popen([*command, *options], text=True, env=environment, **{**pipes, **streams})
        )
        return started[-1]

    yield run
    signal.signal(signal.SIGINT, before)
    for process in started:
        process.kill()
        process.communicate()


def feed(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


def test_results_come_at_once_and_a_reader_that_exits_ends_the_command(start: Start) -> None:
    process = start("match", "--text", "a dog", "--batch-size", "1")
    assert process.stdout is not None
    for _ in range(2):  # a result is there while the input is still open
        feed(process, RED)
        assert process.stdout.readline().split("\t")[2:] == ["pictures/red.png", "a dog\n"]
    process.stdout.close()
    feed(process, RED)
    assert process.wait(timeout=60) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_ctrl_c_ends_without_a_traceback_and_leaves_no_half_file(start: Start, folder: Path) -> None:
    before = {path.name for path in folder.iterdir()}
    process = start("embed", "--output", "out.npy")
    feed(process, RED)
    while not list(folder.glob(".out.npy*")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert {path.name for path in folder.iterdir()} == before
