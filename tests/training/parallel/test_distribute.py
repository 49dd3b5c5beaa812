"""Several ranks: losses equal to those of one rank, and one message when a rank fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.forked import run_ranks
from tests.training.conftest import recipe_tree
from tests.training.torchrun import torchrun
from x2kit.io.run_directory import read_metrics
from x2kit.recipe import read_recipe
from x2kit.training import train
from x2kit.training.checkpoint.checkpoints import checkpoints

CLOCK = {"time", "seconds", "samples_per_second", "data_wait_share"}
CLOSE = 1e-6
"""Sums in another order, in float32; differences grow by step, as Adam divides small gradients by their size."""


def recipe(folder: Path, **training: Any) -> Path:
    """Write a recipe of all kinds of streams with uneven shares; no dropout, whose masks differ by rank."""
    tree = recipe_tree(folder)
    tree["model"]["fusion"]["init_args"] |= {"dropout": 0.0, "layers": 2}
    streams = tree["data"]["streams"]
    common = {key: streams["images"][key] for key in ("source", "max_tokens", "transform")}
    streams["images"] |= {"batch_size": 6, "fusion_rows": 4, "positives": "text"}
    streams["regions"] |= {"batch_size": 5, "positives": "image"}
    regions = {"class_path": "RegionText", "init_args": {"max_images": 4}}
    streams["own"] = {**common, "task": regions, "batch_size": 6, "languages": ["de"]}
    streams["parallel"] |= {"batch_size": 5, "positives": "text"}
    streams["alone"] = {**common, "task": "PlainText", "batch_size": 5, "languages": ["en"]}
    tree["training"] |= {"steps": 4, "lr": 0.001, "warmup": 0, **training}
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def losses(run: Path) -> list[dict[str, float]]:
    """Read the metrics of a run without times."""
    return [{name: value for name, value in line.items() if name not in CLOCK} for line in read_metrics(run)]


def alone(file: Path, run: Path) -> list[dict[str, float]]:
    """Train in this process alone."""
    resolved = read_recipe([file])
    train(resolved.recipe, resolved.plugins, run)
    return losses(run)


def test_two_ranks_have_the_losses_of_one(tmp_path: Path) -> None:
    file = recipe(tmp_path)
    expected = alone(file, tmp_path / "one")
    done = torchrun(2, "train", file, "--run-dir", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    found = losses(tmp_path / "two")
    assert len(found) == len(expected) == 4
    for one, other in zip(expected, found, strict=True):
        assert other == pytest.approx(one, abs=CLOSE, rel=CLOSE)
    assert done.stdout.count("weights:") == 1
    assert done.stdout.count("next: x2kit evaluate") == 1
    facts = json.loads((tmp_path / "two" / "versions.json").read_text())
    assert facts["data"] == json.loads((tmp_path / "one" / "versions.json").read_text())["data"]
    assert [path.name for path in checkpoints(tmp_path / "two")] == ["step-0000002", "step-0000004"]


@pytest.mark.slow
@pytest.mark.parametrize("distribution", ["ddp", "fsdp"])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_any_number_of_ranks_and_workers_has_the_losses_of_one(
    tmp_path: Path, distribution: str, count: int, num_workers: int
) -> None:
    file = recipe(tmp_path, distribution=distribution)
    expected = alone(file, tmp_path / "one")
    options = ("--data.num_workers", str(num_workers))
    done = run_ranks(count, "train", file, "--run-dir", tmp_path / "many", *options)
    assert done.returncode == 0, done.stderr
    for one, other in zip(expected, losses(tmp_path / "many"), strict=True):
        assert other == pytest.approx(one, abs=CLOSE, rel=CLOSE)


@pytest.mark.slow
def test_run_resumes_with_another_number_of_ranks(tmp_path: Path) -> None:
    file = recipe(tmp_path)
    expected = alone(file, tmp_path / "one")
    first = run_ranks(2, "train", file, "--run-dir", tmp_path / "two")
    assert first.returncode == 0, first.stderr
    shutil.rmtree(checkpoints(tmp_path / "two")[-1])  # as after a stop two steps before the end
    resolved = read_recipe([file])
    train(resolved.recipe, resolved.plugins, tmp_path / "two", resume=True)
    for one, other in zip(expected, losses(tmp_path / "two"), strict=True):
        assert other == pytest.approx(one, abs=CLOSE, rel=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("distribution", ["ddp", "fsdp"])
def test_one_two_and_three_ranks_go_on_from_a_whole_checkpoint_of_four(
    tmp_path: Path, distribution: str
) -> None:
    file = recipe(tmp_path, distribution=distribution)
    expected = alone(file, tmp_path / "one")
    assert run_ranks(4, "train", file, "--run-dir", tmp_path / "four").returncode == 0
    shutil.rmtree(checkpoints(tmp_path / "four")[-1])
    shutil.rmtree(tmp_path / "four" / "weights")
    for count in (1, 2, 3):
        run = tmp_path / f"from four to {count}"
        shutil.copytree(tmp_path / "four", run)
        trusted = [f"--plugin={plugin}" for plugin in sorted((run / "plugins").glob("*.py"))]
        done = run_ranks(count, "train", "--resume", "--run-dir", run, *trusted)
        assert done.returncode == 0, done.stderr
        for one, other in zip(expected, losses(run), strict=True):
            assert other == pytest.approx(one, abs=CLOSE, rel=CLOSE)


@pytest.mark.slow
def test_shards_in_bf16_have_the_losses_of_whole_copies_in_bf16(tmp_path: Path) -> None:
    file = recipe(tmp_path, precision="bf16")
    found = {}
    for distribution in ("ddp", "fsdp"):
        run = tmp_path / distribution
        options = ("--run-dir", run, "--training.distribution", distribution)
        done = run_ranks(2, "train", file, *options)
        assert done.returncode == 0, done.stderr
        found[distribution] = losses(run)
    first, *later = zip(found["ddp"], found["fsdp"], strict=True)
    for name, value in first[0].items():  # products of autocast round the same matrices
        assert first[1][name] == pytest.approx(value, abs=CLOSE if name != "gradient_norm" else 1e-2), name
    for copies, shards in later:
        assert shards["loss"] == pytest.approx(copies["loss"], rel=1e-3)


@pytest.mark.slow
def test_ranks_may_use_other_parameters_than_each_other_and_than_before(tmp_path: Path) -> None:
    done = run_ranks(2, module="tests.training.parallel.unlike_ranks")
    assert done.returncode == 0, done.stderr


def test_state_is_gathered_on_rank_0_alone(tmp_path: Path) -> None:
    file = recipe(tmp_path, distribution="fsdp")
    done = run_ranks(2, file, module="tests.training.numbers_held")
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout.splitlines()[-1])
    assert first["held"] == first["of"] > first["shards"]
    assert first["devices"] == ["cpu"]
    assert not first["sharded"]
    assert second["held"] == 0


BROKEN_ON_RANK_1 = """\
import os
from x2kit.errors import DataError
from x2kit.plugin import hookimpl
from tests.data.stubs import StubScenes

class Vanishing(StubScenes):
    split: str = "train"

    def open(self):
        if os.environ.get("RANK") == "1":
            raise DataError("scenes.jsonl: the disk of rank 1 is gone")
        return super().open()

@hookimpl
def x2kit_register(registry):
    registry.add(Vanishing)
"""


def test_failing_rank_ends_the_run_with_its_message_once(tmp_path: Path) -> None:
    file = recipe(tmp_path)
    tree = yaml.safe_load(file.read_text())
    (tmp_path / "vanishing.py").write_text(BROKEN_ON_RANK_1)
    tree["plugins"].append("vanishing.py")
    for stream in tree["data"]["streams"].values():
        stream["source"] = "Vanishing"
    file.write_text(yaml.safe_dump(tree))
    done = torchrun(2, "train", file, "--run-dir", tmp_path / "two")
    assert done.returncode != 0
    assert done.stderr.count("the disk of rank 1 is gone") == 1
    assert "x2kit/training/trainer.py" not in done.stderr  # only torchrun prints a traceback


def test_error_of_all_ranks_is_printed_once(tmp_path: Path) -> None:
    file = recipe(tmp_path)
    done = run_ranks(5, "train", file, "--run-dir", tmp_path / "five")
    assert done.returncode != 0
    assert done.stderr.count("4 records a step cannot be shared by 5 processes") == 1


DYING_ON_RANK_1 = """\
import os, signal
from x2kit.plugin import hookimpl
from tests.data.stubs import Scenes, StubScenes

class Dying(Scenes):
    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        if os.environ["RANK"] == "1" and self.reads > 40:
            END
        return super().__getitem__(index)

class DyingScenes(StubScenes):
    split: str = "train"

    def open(self):
        return Dying(self)

@hookimpl
def x2kit_register(registry):
    registry.add(DyingScenes)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "a data worker of rank 1 ended without a message"),
        ("raise RuntimeError('the disk of rank 1 is gone')", "the disk of rank 1 is gone"),
    ],
)
def test_all_ranks_end_when_a_data_worker_of_one_dies_or_fails(
    tmp_path: Path, end: str, message: str
) -> None:
    file = recipe(tmp_path, steps=100, checkpoint_every=100)
    tree = yaml.safe_load(file.read_text())
    (tmp_path / "dying.py").write_text(DYING_ON_RANK_1.replace("END", end))
    tree["plugins"].append("dying.py")
    tree["data"]["num_workers"] = 1
    for stream in tree["data"]["streams"].values():
        stream["source"] = "DyingScenes"
    file.write_text(yaml.safe_dump(tree))
    done = run_ranks(3, "train", file, "--run-dir", tmp_path / "run")
    assert done.returncode != 0
    assert done.stderr.count(message) == 1, done.stderr
