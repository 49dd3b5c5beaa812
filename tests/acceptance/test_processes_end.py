"""A run that is killed, interrupted or broken leaves no process behind, with one rank and with two."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.training.conftest import recipe_tree

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="survivors are looked for in /proc"),
]

ROOT = Path(__file__).parents[2]
MARK, PLACE, RAISED = "X2KIT_TEST_RUN", "X2KIT_TEST_FAULT", "X2KIT_TEST_RAISED"
SECONDS = 5.0
"""In which all processes of a run have to be gone, where each of them has a core to itself."""
PATIENCE = 240.0
"""Seconds until a run that should have begun counts as hung."""

FAULTY = f"""\
import os, sys
from pathlib import Path

sys.path.insert(0, {str(ROOT)!r})
from tests.data.stubs import Scenes, StubScenes
from tests.model.tiny import TinyVision, TinyVisionEncoder
from x2kit.plugin import ReporterConfig, hookimpl


def raise_in(place, rank="1"):
    if os.environ.get({PLACE!r}) == place and os.environ.get("RANK", rank) == rank:
        Path(os.environ[{RAISED!r}]).touch()
        raise NameError(f"name {{place!r}} is not defined")


class Eye(TinyVision):
    def build(self, assets=None):
        raise_in("build")
        return EyeEncoder(self)


class EyeEncoder(TinyVisionEncoder):
    def forward(self, images):
        raise_in("forward")
        return super().forward(images)


class Records(StubScenes):
    split: str = "train"

    def open(self):
        return OpenRecords(self)


class OpenRecords(Scenes):
    def __getitem__(self, index):
        raise_in("worker")
        return super().__getitem__(index)


class Board(ReporterConfig):
    def build(self):
        return self

    def start(self, run, folder):
        raise_in("reporter", rank="0")

    def log(self, step, values):
        pass

    def end(self, status):
        pass


@hookimpl
def x2kit_run_started(run):
    raise_in("callback", rank="0")


@hookimpl
def x2kit_step_done(run, step, values):
    raise_in("callback of a step", rank="0")


@hookimpl
def x2kit_register(registry):
    for component in (Eye, Records, Board):
        registry.add(component)
"""


@dataclass
class Started:
    """A run in processes of its own, all of which have a mark in their environment."""

    process: subprocess.Popen[str]
    mark: str
    raised: Path
    directory: Path
    said: Path

    def processes(self) -> dict[int, str]:
        """Command lines of those that live, by number."""
        return dict(_marked(self.mark))

    def wait_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not reached():
            assert time.monotonic() < deadline, (self.processes(), self.said.read_text())
            time.sleep(0.01)

    def trains(self) -> bool:
        file = self.directory / "metrics.jsonl"
        assert self.process.poll() is None, self.said.read_text()
        return file.exists() and file.read_bytes().count(b"\n") >= 2

    def seconds_to_end(self, began: float) -> float:
        """Until no process is left, counted from a time. Fails with the survivors, which are then killed."""
        while self.processes():
            took = time.time() - began
            assert took < limit(), f"after {took:.1f} s: {self.processes()}\n{self.said.read_text()}"
            self.process.poll()  # or it would stay as a zombie
            time.sleep(0.01)
        took = time.time() - began
        self.process.wait(1)
        return took


def limit() -> float:
    """The seconds that are allowed now: more on a machine whose cores are shared with others."""
    return SECONDS * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _marked(mark: str) -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
        except OSError:  # of somebody else, or gone meanwhile
            continue


@contextmanager
def started(folder: Path, ranks: int, fault: str = "", **training: object) -> Iterator[Started]:
    """`x2kit train` of the tiny recipe with data workers, in a session of its own as from a terminal."""
    tree = recipe_tree(folder)
    (folder / "faulty.py").write_text(FAULTY)
    tree["plugins"].append("faulty.py")
    tree["model"]["vision"] = "Eye"
    tree["data"]["num_workers"] = 2
    for stream in tree["data"]["streams"].values():
        stream["source"] = "Records"
    tree["training"] |= {"steps": 100_000, "reporters": {"board": "Board"}, **training}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tree))
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), "-m"]
    command = [sys.executable, "-m", *(torchrun if ranks > 1 else []), "x2kit", "train"]
    mark, raised = uuid.uuid4().hex, folder / "raised"
    variables = {MARK: mark, PLACE: fault, RAISED: str(raised), "OMP_NUM_THREADS": "1"}
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [*command, str(folder / "tiny.yaml"), "--run-dir", str(folder / "run")],
            cwd=ROOT,
            env={**os.environ, **variables},
            stdout=said,
            stderr=said,
            text=True,
            start_new_session=True,
        )
    run = Started(process, mark, raised, folder / "run", folder / "said")
    try:
        yield run
    finally:
        for number in run.processes():
            os.kill(number, signal.SIGKILL)
        process.wait()


def report(case: str, ranks: int, seconds: float) -> None:
    sys.stderr.write(
        f"{case}, {ranks} rank{'s' if ranks > 1 else ''}: gone after {seconds:.2f} s of {limit():.0f}\n"
    )


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("place", ["build", "forward", "worker", "callback", "reporter"])
def test_an_exception_ends_all_processes(tmp_path: Path, place: str, ranks: int) -> None:
    with started(tmp_path, ranks, place) as run:
        run.wait_until(run.raised.exists)
        seconds = run.seconds_to_end(run.raised.stat().st_mtime)
        report(f"exception in {place}", ranks, seconds)
        said = run.said.read_text()
        assert run.process.returncode != 0
        assert said.count(f"name '{place}' is not defined") == 1, said


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_whose_callback_failed_ends_with_its_last_step(tmp_path: Path, ranks: int) -> None:
    with started(tmp_path, ranks, "callback of a step", steps=4) as run:
        run.wait_until((run.directory / "weights").exists)
        report("exception in a callback of a step", ranks, run.seconds_to_end(time.time()))
        assert run.process.returncode == 0, run.said.read_text()


@pytest.mark.parametrize("ranks", [1, 2])
def test_ctrl_c_ends_all_processes(tmp_path: Path, ranks: int) -> None:
    with started(tmp_path, ranks) as run:
        run.wait_until(run.trains)
        began = time.time()
        os.killpg(run.process.pid, signal.SIGINT)
        report("Ctrl-C", ranks, run.seconds_to_end(began))
        assert "resume with: x2kit train --resume" in run.said.read_text()


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_second_ctrl_c_ends_all_processes(tmp_path: Path, ranks: int) -> None:
    with started(tmp_path, ranks) as run:
        run.wait_until(run.trains)
        began = time.time()
        for _ in range(2):
            os.killpg(run.process.pid, signal.SIGINT)
            time.sleep(0.05)
        report("second Ctrl-C", ranks, run.seconds_to_end(began))


@pytest.mark.parametrize(
    ("ranks", "whom"), [(1, "rank"), (1, "worker"), (2, "rank"), (2, "worker"), (2, "torchrun")]
)
def test_kill_9_ends_all_processes(tmp_path: Path, ranks: int, whom: str) -> None:
    with started(tmp_path, ranks) as run:
        run.wait_until(run.trains)
        began = time.time()
        os.kill(victim(run, whom), signal.SIGKILL)
        report(f"kill -9 of a {whom}", ranks, run.seconds_to_end(began))


def victim(run: Started, whom: str) -> int:
    """A process of the run. Ranks are children of torchrun, workers children of a rank."""
    children = {number: [n for n in run.processes() if _parent(n) == number] for number in run.processes()}
    launcher = run.process.pid
    ranks = [n for n in children[launcher] if children[n]] if len(children) > 4 else [launcher]
    return {"torchrun": launcher, "rank": ranks[0], "worker": children[ranks[0]][0]}[whom]


def _parent(number: int) -> int:
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1])
