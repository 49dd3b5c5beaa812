"""Kill a run repeatedly, resume it to the end, and compare it with an uninterrupted one."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.reliability.kills import KILLS, readable
from tests.reliability.runs import Kind, Run, Settings


@dataclass
class Chain:
    """One run and the kinds of kills it gets.

    Args:
        name: of the chain.
        kinds: of kills, in any order.
        settings: recipe keys that change no value.
        room: size in MiB of a separate file system, required for kills by a full disk.
    """

    name: str
    kinds: Sequence[Kind]
    settings: Settings = ()
    room: int | None = None


@dataclass
class Result:
    """Kills and processes of a chain, and its equality with the uninterrupted run."""

    chain: Chain
    kills: Counter[Kind] = field(default_factory=Counter)
    starts: int = 0
    equal_weights: bool = False
    equal_metrics: bool = False
    equal_board: bool = False


ASYNC = "--training.async_saving=true"


def chains(full: Kind) -> tuple[Chain, ...]:
    """Return all chains.

    Args:
        full: "full disk" if a file system can be mounted, else "file size limit".
    """
    room = 64 if full == "full disk" else None
    return (
        Chain("plain", _kinds(SIGKILL=4, saving=3, SIGTERM=2)),
        Chain(
            "a worker prepares the data", _kinds(SIGKILL=4, saving=2, SIGTERM=3), ("--data.num_workers=1",)
        ),
        Chain("async_saving", _kinds(SIGKILL=3, saving=3, SIGTERM=2, damaged=1), (ASYNC,)),
        Chain("damaged checkpoints", _kinds(damaged=5, SIGTERM=3, SIGKILL=1), ("--training.keep_last=3",)),
        Chain("full disk", [full] * 6 + _kinds(SIGKILL=2, saving=1), room=room),
        Chain("full disk, async_saving", [full] * 4 + _kinds(limit=3, SIGKILL=1, damaged=1), (ASYNC,), room),
    )


def _kinds(
    SIGKILL: int = 0, saving: int = 0, SIGTERM: int = 0, damaged: int = 0, limit: int = 0
) -> list[Kind]:
    kinds: list[Kind] = ["SIGKILL"] * SIGKILL
    kinds += ["SIGKILL while saving"] * saving
    kinds += ["SIGTERM"] * SIGTERM
    kinds += ["damaged checkpoint"] * damaged
    return kinds + ["file size limit"] * limit


def follow(chain: Chain, recipe: Path, folder: Path, whole: Run, seed: int) -> Result:
    """Kill a run in random order of the chain's kinds, finish it, and compare it with `whole`."""
    rng = random.Random(f"{seed} {chain.name}")
    result = Result(chain)
    folder.mkdir(parents=True)
    with _file_system(folder, chain.room):
        run = Run(recipe, folder / "run", chain.settings)
        for kind in rng.sample(chain.kinds, len(chain.kinds)):
            if KILLS[kind](run, rng):
                result.kills[kind] += 1
        run.start()
        readable(run, run.end(), 0)
        result.starts = run.starts
        result.equal_weights = run.weights() == whole.weights()
        result.equal_metrics = run.numbers() == whole.numbers()
        result.equal_board = board(run) == board(whole)
        leftovers = [str(path) for path in run.directory.rglob(".*")]
        assert not leftovers, leftovers
    return result


@contextmanager
def _file_system(folder: Path, room: int | None) -> Iterator[None]:
    if room is None:
        yield
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}m", "x2kit", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def how_disks_fill(folder: Path) -> Kind:
    """Return "full disk" if this user can mount a file system, else "file size limit"."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _file_system(folder, 1):
            return "full disk"
    except (OSError, subprocess.CalledProcessError):
        return "file size limit"


def board(run: Run) -> dict[str, list[tuple[int, float]]]:
    """Read steps and values of all TensorBoard scalars except timings."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.directory / "reporters" / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    clock = {"time", "seconds", "samples_per_second", "data_wait_share"}
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag not in clock
    }
