"""`x2kit bench --ranks` with real processes, and a rank that runs out of memory."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training.conftest import recipe_tree
from tests.training.torchrun import torchrun

Run = Callable[..., Any]

WITHOUT_MEMORY = """
import torch
from torch import distributed
from x2kit.training.stepper import Stepper

ordinary = Stepper.step

def step(self, batch):
    if self.processes.rank == 1 and self.recipe.data.streams["images"].batch_size > 4:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return ordinary(self, batch)

Stepper.step = step
"""


@pytest.fixture
def tiny(folder: Path) -> str:
    """A recipe of tiny encoders in the working directory."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe_tree(folder)))
    return "tiny.yaml"


@pytest.mark.slow
def test_two_ranks_share_a_batch_and_each_writes_its_trace(x2kit: Run, tiny: str, folder: Path) -> None:
    done = x2kit("bench", tiny, "--steps", "1", "--ranks", "2", "--trace", "traces", "--json")
    assert done.status == 0
    found = json.loads(done.out)
    (phase,) = found["phases"]
    assert found["ranks"] == 2
    assert found["rows"] == {"images": 4, "regions": 4, "parallel": 4}
    assert phase["shares"]["communication"] > 0
    assert phase["flops_per_step"] > phase["useful_flops_per_step"] > 0
    files = sorted(file.name for file in (folder / "traces").iterdir())
    assert files == ["phase-1-rank-0.json.gz", "phase-1-rank-1.json.gz"]
    events = json.loads(gzip.decompress((folder / "traces" / files[1]).read_bytes()))["traceEvents"]
    assert "x2kit.communication" in {event.get("name") for event in events}


@pytest.mark.slow
def test_useful_operations_are_those_of_one_rank(x2kit: Run, tiny: str) -> None:
    found = json.loads(x2kit("bench", tiny, "--steps", "1", "--ranks", "1,2", "--json").out)["ranks"]
    one, two = (measured["phases"][0]["useful_flops_per_step"] for measured in found)
    assert two == pytest.approx(
        one, rel=0.1
    )  # each rank projects keys and values of the images that it fetched


@pytest.mark.slow
@pytest.mark.parametrize("distribution", ["ddp", "fsdp"])
def test_ranks_of_torchrun_are_measured_together(tiny: str, folder: Path, distribution: str) -> None:
    options = ("--steps", "1", "--json", "--training.distribution", distribution)
    done = torchrun(2, "bench", tiny, *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ranks"] == 2
    assert found["phases"][0]["useful_flops_per_step"] is not None


@pytest.mark.slow
def test_a_rank_without_memory_ends_the_search_and_not_the_command(
    x2kit: Run, tiny: str, folder: Path
) -> None:
    with (folder / "scenes.py").open("a") as file:
        file.write(WITHOUT_MEMORY)
    done = x2kit("bench", tiny, "--steps", "1", "--ranks", "2", "--find-batch-size", "--json")
    assert done.status == 0
    found = json.loads(done.out)
    assert (found["best"], list(found["tried"])) == (1, ["1"])


@pytest.mark.slow
def test_a_failed_rank_fails_the_command(x2kit: Run, tiny: str) -> None:
    done = x2kit("bench", tiny, "--ranks", "2", "--training.device", "cuda:7")
    assert done.status == 2
