"""Kill a run in one of several ways, and assert the state it leaves."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.reliability.runs import CHECKPOINT_EVERY, Kind, Outcome, Run, damage

Kill = Callable[[Run, random.Random], bool]
"""Starts the next process of a run and ends it at a random moment; returns False if the run finished before."""


def _some_steps(run: Run, rng: random.Random) -> None:
    """Wait for a random number of steps and a part of the next."""
    wanted = run.saved() + rng.randint(0, 3 * CHECKPOINT_EVERY)
    run.wait_until(run.training)
    run.wait_until(lambda: run.steps() >= wanted)
    time.sleep(rng.random() * 0.02)


def _killed(run: Run) -> bool:
    """Send SIGKILL; return False if the process had ended. Its start messages may be lost."""
    outcome = run.end(signal.SIGKILL)
    run.expected.clear()
    return outcome.status == -signal.SIGKILL


def by_sigkill(run: Run, rng: random.Random) -> bool:
    """Kill at any instruction."""
    run.start()
    _some_steps(run, rng)
    return _killed(run)


def while_saving(run: Run, rng: random.Random) -> bool:
    """Kill while a checkpoint is being written."""
    run.start()
    _some_steps(run, rng)
    run.wait_until(run.saving)
    time.sleep(rng.random() * 0.002)
    return _killed(run)


def by_sigterm(run: Run, rng: random.Random) -> bool:
    """Ask the run to stop: it saves and prints how to resume."""
    run.start()
    _some_steps(run, rng)
    outcome = run.end(signal.SIGTERM)
    if outcome.status == 0:
        return False
    readable(run, outcome, 130)
    assert "saved; resume with: x2kit train --resume" in outcome.errors, outcome
    return True


def by_full_disk(run: Run, rng: random.Random) -> bool:
    """Fill the small file system during the run; free space before the resume."""
    run.start()
    run.wait_until(lambda: run.training() and bool(run.newest()))
    _some_steps(run, rng)
    if not run.alive():
        return False
    filler = run.directory.parent / "filler"
    try:
        _fill(filler, leave=int(rng.random() * 0.9 * _size_of_state(run)))
        outcome = run.end()
    finally:
        filler.unlink(missing_ok=True)
    return _was_full(run, outcome)


def _fill(filler: Path, leave: int) -> None:
    room = os.statvfs(filler.parent)
    with suppress(OSError), filler.open("wb", buffering=0) as file:  # the run writes at the same time
        for _ in range(max(0, room.f_bavail * room.f_frsize - leave) // 4096):
            file.write(bytes(4096))


def by_file_size(run: Run, rng: random.Random) -> bool:
    """Limit files below the size of a checkpoint, as a quota does."""
    run.start(file_size=int((0.2 + 0.75 * rng.random()) * (_size_of_state(run) or 40_000)))
    return _was_full(run, run.end())


def _size_of_state(run: Run) -> int:
    return (run.newest()[0] / "state.pt").stat().st_size if run.newest() else 0


def _was_full(run: Run, outcome: Outcome) -> bool:
    if outcome.status == 0:
        return False
    readable(run, outcome, 2)
    assert "not written: " in outcome.errors, outcome
    assert not run.saving(), outcome
    return True


def readable(run: Run, outcome: Outcome, status: int) -> None:
    """Assert the exit status and expected messages, and that there is no traceback."""
    assert outcome.status == status, outcome
    assert "Traceback" not in outcome.errors, outcome
    for line in run.expected:
        assert line in outcome.output, (line, outcome)
    run.expected.clear()


def by_damage(run: Run, rng: random.Random) -> bool:
    """Kill, then damage the newest checkpoint; the next process must report it and use the previous one."""
    run.start()
    run.wait_until(lambda: run.training() and len(run.newest()) >= 2)
    _some_steps(run, rng)
    if not _killed(run):
        return False
    newest = run.newest()[0]
    damage(newest, rng)
    run.expected[:] = [f"{newest}: damaged, using the previous one"]
    return True


KILLS: dict[Kind, Kill] = {
    "SIGKILL": by_sigkill,
    "SIGKILL while saving": while_saving,
    "SIGTERM": by_sigterm,
    "full disk": by_full_disk,
    "file size limit": by_file_size,
    "damaged checkpoint": by_damage,
}
