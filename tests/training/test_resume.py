"""Runs in processes of their own, stopped in every way, go on to the very weights of a run that was never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.forked import Program
from x2kit import cli
from x2kit.recipe import read_recipe

from .conftest import recipe_tree

QUICKSTART = {
    "model.vision.image_size": 32,
    "model.vision.width": 16,
    "model.vision.depth": 1,
    "model.vision.heads": 2,
    "model.text.width": 16,
    "model.text.heads": 2,
    "model.text.layers": 1,
    "model.fusion.layers": 1,
    "model.fusion.heads": 2,
    "data.num_workers": 0,
    "data.streams.scenes.source.size": 480,
    "data.streams.scenes.batch_size": 4,
    "data.streams.regions.source.size": 480,
    "data.streams.regions.batch_size": 8,
    "data.streams.regions.fusion_rows": 4,
    "data.streams.translations.batch_size": 8,
    "data.streams.translations.fusion_rows": 4,
    "training.steps": 24,
    "training.threads": 1,
    "training.checkpoint_every": 4,
    "training.log_every": 1,
    "training.device": "cpu",
    "training.precision": "fp32",
}
"""The quickstart, so small that a step takes some hundredths of a second."""
STOP_AFTER = 6
"""Lines of metrics, one a step: between two checkpoints."""


def quickstart(directory: Path) -> list[str]:
    keys = [f"--{key}={value}" for key, value in QUICKSTART.items()]
    return ["train", "quickstart/multilingual", "--run-dir", str(directory), *keys]


def weights(directory: Path) -> bytes:
    return (directory / "weights/model.safetensors").read_bytes()


def steps_logged(directory: Path) -> int:
    metrics = directory / "metrics.jsonl"
    return metrics.read_text().count("\n") if metrics.exists() else 0


def stop(
    command: Sequence[str], directory: Path, number: signal.Signals, group: bool = False
) -> tuple[int, str]:
    """Start a run in a new process and send it, or its group as a terminal does, a signal; status and errors."""
    process = Program(*command, session=True)
    deadline = time.monotonic() + 300
    while steps_logged(directory) < STOP_AFTER and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    if process.poll() is None:
        (os.killpg if group else os.kill)(process.pid, number)
    ended = process.wait()
    assert steps_logged(directory) >= STOP_AFTER, ended.stderr
    assert not (directory / "weights").exists(), "the run was over before it could be stopped"
    return ended.returncode, ended.stderr


def test_a_killed_quickstart_goes_on_in_a_new_process(tmp_path: Path) -> None:
    assert cli.main(quickstart(tmp_path / "whole")) == 0
    killed = tmp_path / "killed"
    status, _ = stop(quickstart(killed), killed, signal.SIGKILL)
    assert status == -signal.SIGKILL
    command = [sys.executable, "-m", "x2kit", "train", "--resume", "--run-dir", str(killed)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # a fresh interpreter, not a fork
    assert weights(killed) == weights(tmp_path / "whole")


TASKS = ("captions", "entailment", "grounding", "pairs", "questions", "video-questions", "weak-grounding")


def small_task(name: str, directory: Path) -> list[str]:
    """The quickstart of a task with the sizes of `QUICKSTART`, from initial weights."""
    streams = read_recipe([f"quickstart/{name}"], checks="none").recipe.data.streams
    keys = {key: value for key, value in QUICKSTART.items() if not key.startswith("data.streams.")}
    for stream, config in streams.items():
        keys[f"data.streams.{stream}.batch_size"] = 2 * config.block
    return [
        "train",
        f"quickstart/{name}",
        "--run-dir",
        str(directory),
        *[f"--{key}={value}" for key, value in keys.items()],
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_a_killed_training_of_each_task_goes_on_to_equal_weights(name: str, tmp_path: Path) -> None:
    assert cli.main(small_task(name, tmp_path / "whole")) == 0
    killed = tmp_path / "killed"
    status, _ = stop(small_task(name, killed), killed, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert cli.main(["train", "--resume", "--run-dir", str(killed)]) == 0
    assert weights(killed) == weights(tmp_path / "whole")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A tiny recipe, and the final weights of a run of it that nobody stopped."""
    folder = tmp_path_factory.mktemp("tiny")
    tree = recipe_tree(folder)
    tree["training"] |= {"steps": 60, "checkpoint_every": 4}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tree))
    assert cli.main(["train", str(folder / "tiny.yaml"), "--run-dir", str(folder / "run")]) == 0
    return folder / "tiny.yaml", weights(folder / "run")


@pytest.mark.parametrize(
    ("number", "workers", "group"),
    [
        (signal.SIGKILL, 1, False),
        (signal.SIGTERM, 0, False),
        (signal.SIGTERM, 1, True),
        (signal.SIGINT, 1, True),
    ],
)
def test_a_stopped_run_goes_on(
    tiny: tuple[Path, bytes], tmp_path: Path, number: signal.Signals, workers: int, group: bool
) -> None:
    recipe, whole = tiny
    directory = tmp_path / "run"
    command = ["train", str(recipe), "--run-dir", str(directory), f"--data.num_workers={workers}"]
    status, errors = stop(command, directory, number, group)
    if number == signal.SIGKILL:
        assert status == -signal.SIGKILL
    else:
        assert status == 130, errors
        assert f"saved; resume with: x2kit train --resume --run-dir {directory}" in errors
        assert "Traceback" not in errors
    assert cli.main(["train", "--resume", "--run-dir", str(directory)]) == 0
    assert weights(directory) == whole
