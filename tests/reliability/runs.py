"""Run training in forked processes that can be signalled and inspected."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Literal, NamedTuple

import yaml

from tests.forked import FORKS
from tests.training.conftest import recipe_tree
from x2kit import cli
from x2kit.io.run_directory import read_metrics

Kind = Literal[
    "SIGKILL", "SIGKILL while saving", "SIGTERM", "full disk", "file size limit", "damaged checkpoint"
]
KINDS: tuple[Kind, ...] = (
    "SIGKILL",
    "SIGKILL while saving",
    "SIGTERM",
    "full disk",
    "file size limit",
    "damaged checkpoint",
)
CLOCK = {"time", "seconds", "samples_per_second", "data_wait_share"}
STEPS, CHECKPOINT_EVERY = 200, 5
PATIENCE = 300.0
"""Seconds until a process counts as hung."""
Settings = tuple[str, ...]


class Outcome(NamedTuple):
    """Exit status and output of a process."""

    status: int
    output: str
    errors: str


@dataclass
class Run:
    """A run directory and the processes that train in it, one at a time.

    Args:
        recipe: the recipe file.
        directory: of the run; may be missing.
        settings: recipe keys of the command line that change no value.
    """

    recipe: Path
    directory: Path
    settings: Settings = ()
    starts: int = 0
    expected: list[str] = field(default_factory=list)
    """Lines that the next process must print."""
    _event_files: int = 0
    process: ForkServerProcess | None = field(default=None, repr=False)

    def start(self, file_size: int | None = None) -> None:
        """Start or resume the run in a new process; `file_size` limits its files in bytes."""
        started = (self.directory / "recipe.yaml").exists()
        source = ["--resume"] if started else [str(self.recipe)]
        command = ["train", *source, "--run-dir", str(self.directory), *self.settings]
        self.starts += 1
        self._event_files = self._count_event_files()
        self._output.mkdir(parents=True, exist_ok=True)
        self.process = FORKS.Process(target=_x2kit, args=(command, self._output, file_size, dict(os.environ)))
        self.process.start()

    @property
    def _output(self) -> Path:
        return self.recipe.parent / "output" / self.directory.parent.name  # not on the file system that fills

    def alive(self) -> bool:
        """Return whether the process is running."""
        assert self.process is not None
        return self.process.is_alive()

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Poll until a condition holds or the process has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.alive() and not reached():
            if time.monotonic() > deadline:
                raise AssertionError(f"nothing happened for {PATIENCE} s: {self.end(signal.SIGKILL)}")
            time.sleep(0.0005)

    def end(self, number: signal.Signals | None = None) -> Outcome:
        """Send a signal if given, and wait for the end."""
        assert self.process is not None
        assert self.process.pid is not None
        if number is not None and self.alive():
            os.kill(self.process.pid, number)
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, f"still running after {PATIENCE} s"
        return Outcome(self.process.exitcode, *((self._output / name).read_text() for name in ("out", "err")))

    def training(self) -> bool:
        """Return whether the process has loaded its checkpoint and opened its reporters."""
        return self._count_event_files() > self._event_files

    def _count_event_files(self) -> int:
        return sum(1 for _ in self.directory.glob("reporters/tensorboard/*"))

    def steps(self) -> int:
        """Count the lines of metrics, one per step."""
        file = self.directory / "metrics.jsonl"
        return file.read_bytes().count(b"\n") if file.exists() else 0

    def saved(self) -> int:
        """Return the step of the newest checkpoint, 0 without one."""
        return int(self.newest()[0].name.removeprefix("step-")) if self.newest() else 0

    def saving(self) -> bool:
        """Return whether a partial checkpoint exists."""
        return any(self.directory.glob("checkpoints/.step-*.partial"))

    def newest(self) -> list[Path]:
        """List the checkpoints, newest first."""
        return sorted(self.directory.glob("checkpoints/step-*"), reverse=True)

    def weights(self) -> bytes:
        """Read the final weights."""
        return (self.directory / "weights/model.safetensors").read_bytes()

    def numbers(self) -> list[dict[str, float]]:
        """Read the metrics without timings."""
        return [{k: v for k, v in line.items() if k not in CLOCK} for line in read_metrics(self.directory)]


def _x2kit(command: list[str], output: Path, file_size: int | None, environment: dict[str, str]) -> None:
    """Run `x2kit` in a forked process with its output in two files."""
    os.environ.clear()  # the server has that of the test which started it
    os.environ.update(environment)
    for name, number in (("out", 1), ("err", 2)):
        descriptor = os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    sys.stdout, sys.stderr = open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    multiprocessing.set_start_method(
        "fork", force=True
    )  # of workers, as in a process that was started afresh
    sys.exit(cli.main(command))


def write_recipe(folder: Path, steps: int = STEPS) -> Path:
    """Write a recipe with all kinds of streams, tiny encoders and one line of metrics per step."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = recipe_tree(folder)
    tree["training"] |= {
        "steps": steps,
        "checkpoint_every": CHECKPOINT_EVERY,
        "log_every": 1,
        "reporters": {"tensorboard": "TensorBoard"},
    }
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def damage(checkpoint: Path, rng: random.Random) -> str:
    """Damage a checkpoint in a random way; return its name."""
    state = checkpoint / "state.pt"
    content = bytearray(state.read_bytes())
    way = rng.choice(["bit", "cut", "gone", "zeros", "no sums"])
    if way == "bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        state.write_bytes(content)
    elif way == "cut":
        state.write_bytes(content[: rng.randrange(len(content))])
    elif way == "gone":
        state.unlink()
    elif way == "zeros":
        state.write_bytes(bytes(len(content)))
    else:
        (checkpoint / "SHA256SUMS").unlink()
    return way
