"""Each kind of kill, as one function of a run that goes on: it ends the process and says what must be true then."""

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
"""Starts the next process of a run and ends it at a random moment; False if the run was over before."""


def _some_steps(run: Run, rng: random.Random) -> None:
    """Let the process go on for a random number of steps, and into the middle of the next."""
    wanted = run.saved() + rng.randint(0, 3 * CHECKPOINT_EVERY)
    run.wait_until(run.going)
    run.wait_until(lambda: run.steps() >= wanted)
    time.sleep(rng.random() * 0.02)


def _killed(run: Run) -> bool:
    """kill -9; False if the process had ended before. What it had said of its start may be lost with it."""
    outcome = run.end(signal.SIGKILL)
    run.expected.clear()
    return outcome.status == -signal.SIGKILL


def by_sigkill(run: Run, rng: random.Random) -> bool:
    """kill -9 between any two instructions."""
    run.start()
    _some_steps(run, rng)
    return _killed(run)


def while_saving(run: Run, rng: random.Random) -> bool:
    """kill -9 while a checkpoint is being written."""
    run.start()
    _some_steps(run, rng)
    run.wait_until(run.saving)
    time.sleep(rng.random() * 0.002)
    return _killed(run)


def by_sigterm(run: Run, rng: random.Random) -> bool:
    """The polite request: the run saves and says how to go on."""
    run.start()
    _some_steps(run, rng)
    outcome = run.end(signal.SIGTERM)
    if outcome.status == 0:
        return False
    readable(run, outcome, 130)
    assert "saved; go on with: x2kit train --resume" in outcome.errors, outcome
    return True


def by_full_disk(run: Run, rng: random.Random) -> bool:
    """The file system fills while the run goes on; room is made before it goes on. `run` is on a small one."""
    run.start()
    run.wait_until(lambda: run.going() and bool(run.newest()))
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
    with suppress(OSError), filler.open("wb", buffering=0) as file:  # the run takes room meanwhile
        for _ in range(max(0, room.f_bavail * room.f_frsize - leave) // 4096):
            file.write(bytes(4096))


def by_file_size(run: Run, rng: random.Random) -> bool:
    """Files may not grow so large as a checkpoint: what a quota does, without a file system of one's own."""
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
    """Assert that a process ended with this status, with a message, and not with a traceback."""
    assert outcome.status == status, outcome
    assert "Traceback" not in outcome.errors, outcome
    for line in run.expected:
        assert line in outcome.output, (line, outcome)
    run.expected.clear()


def by_damage(run: Run, rng: random.Random) -> bool:
    """kill -9, then the newest checkpoint is damaged; the next process must say so and use the one before."""
    run.start()
    run.wait_until(lambda: run.going() and len(run.newest()) >= 2)
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
