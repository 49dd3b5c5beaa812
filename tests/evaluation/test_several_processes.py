"""`torchrun -m x2kit evaluate` gives the result of one rank, written once, and one error message."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.forked import run_ranks
from tests.training.conftest import recipe_tree
from tests.training.torchrun import torchrun
from x2kit.evaluation import evaluate
from x2kit.model import build_model, save_weights
from x2kit.recipe import read_recipe

pytestmark = pytest.mark.slow  # each process imports torch; threads do the same in test_sharing.py

Start = Callable[..., "subprocess.CompletedProcess[str]"]

STRANGERS = """\
import os
from pathlib import Path
from x2kit.errors import DataError
from x2kit.plugin import Source, TaskConfig, hookimpl
from tests.data.stubs import Scenes as Plain, StubScenes

RANK = os.environ.get("RANK", "0")

class Traces(TaskConfig):
    folder: Path

    def run(self, context):
        (self.folder / f"{os.getpid()}.trace").touch()
        return {"rank_of_stranger": RANK}

class Vanishing(Plain):
    def __getitem__(self, index):
        if index == len(self) - 1:
            raise DataError("scenes.jsonl: its last record is gone")
        return super().__getitem__(index)

class VanishingScenes(StubScenes):
    split: str = "test"

    def open(self):
        return Vanishing(self)

@hookimpl
def x2kit_register(registry):
    registry.add(Traces)
    registry.add(VanishingScenes)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An untrained run with Retrieval, Grounding and a task that knows nothing of processes."""
    tree = recipe_tree(tmp_path)
    (tmp_path / "strangers.py").write_text(STRANGERS)
    tree["plugins"].append("strangers.py")
    traces = {"class_path": "Traces", "init_args": {"folder": str(tmp_path)}}
    tree["evaluation"] = {
        "source": {"class_path": "Scenes", "init_args": {"count": 50, "split": "test"}},
        "batch_size": 8,
        "tasks": {"retrieval": "Retrieval", "grounding": "Grounding", "traces": traces},
    }
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(tree))
    resolved = read_recipe([file])
    torch.manual_seed(0)
    model = build_model(resolved.recipe.model)
    for parameter in model.parameters():
        if parameter.ndim:
            torch.nn.init.normal_(parameter, std=0.5)
    directory = tmp_path / "run"
    save_weights(model, resolved.recipe.to_yaml(), directory / "weights")
    (directory / "recipe.yaml").write_text(resolved.recipe.to_yaml())
    return directory


@pytest.fixture
def one(run: Path) -> dict[str, Any]:
    """What this one process measures, with one thread as under torchrun: several end sums in other digits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    resolved = read_recipe([run / "recipe.yaml"])
    evaluate(run, resolved.recipe, resolved.plugins)
    torch.set_num_threads(threads)
    return untimed(run)


def untimed(run: Path) -> dict[str, Any]:
    """evaluation.json without what the clock says."""
    written: dict[str, Any] = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").unlink()
    return {key: value for key, value in written.items() if key != "seconds"}


def consent(run: Path) -> list[str]:
    """Allow the file plugins of the run."""
    plugins = yaml.safe_load((run / "recipe.yaml").read_text())["plugins"]
    return [word for plugin in plugins for word in ("--plugin", plugin)]


def measured(count: int, run: Path, start: Start = run_ranks) -> dict[str, Any]:
    """Evaluate on `count` ranks and return the result."""
    done = start(count, "evaluate", run, "--json", *consent(run))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((run / "evaluation.json").read_text())  # printed once
    return untimed(run)


def test_two_ranks_give_the_result_of_one(run: Path, one: dict[str, Any], tmp_path: Path) -> None:
    two = measured(2, run, torchrun)
    assert two == one
    assert one["languages"]["en"]["reranked"]["mean_r1"] > 0
    assert (
        0 < one["grounding"]["en"]["mean_iou"] < 1
    )  # a mean of many digits: another batch would change the last
    assert two["rank_of_stranger"] == "0"
    assert len(list(tmp_path.glob("*.trace"))) == 3  # in this process, and in each of the two


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_ranks_gives_the_result_of_one(run: Path, one: dict[str, Any], count: int) -> None:
    assert measured(count, run) == one


def test_a_failing_rank_ends_evaluation_with_one_message(run: Path) -> None:
    source = "{class_path: VanishingScenes, init_args: {count: 20}}"
    done = run_ranks(2, "evaluate", run, "--evaluation.source", source, *consent(run))
    assert done.returncode != 0
    assert done.stderr.count("scenes.jsonl: its last record is gone") == 1
    assert "x2kit/evaluation/harness.py" not in done.stderr
    assert not (run / "evaluation.json").exists()
