from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from x2kit.distributed.processes import ALONE
from x2kit.errors import CheckpointError
from x2kit.training.checkpoint.named_tensors import (
    model_targets,
    model_tensors,
    optimizer_targets,
    optimizer_tensors,
    with_tensors,
    without_tensors,
)
from x2kit.training.checkpoint.shards import Shards, write_shards


class Tied(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("count", torch.tensor(2))


def trained(width: int = 3) -> tuple[Tied, torch.optim.Optimizer]:
    model = Tied(width)
    names, parameters = zip(*model.named_parameters(), strict=True)
    optimizer = torch.optim.AdamW([{"params": list(parameters), "names": list(names)}])
    model.second(model.first(torch.ones(1, width))).sum().backward()
    optimizer.step()
    return model, optimizer


def saved(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Shards:
    tensors = {**model_tensors(model), **optimizer_tensors(optimizer.state_dict())}
    write_shards(folder, tensors, ALONE, folder)
    return Shards(folder)


def test_tied_tensors_occur_once(tmp_path: Path) -> None:
    shards = saved(tmp_path, *trained())
    assert sorted(shards.sizes) == [
        "model.count",
        "model.first.bias",
        "model.first.weight",
        "optimizer.first.bias.exp_avg",
        "optimizer.first.bias.exp_avg_sq",
        "optimizer.first.bias.step",
        "optimizer.first.weight.exp_avg",
        "optimizer.first.weight.exp_avg_sq",
        "optimizer.first.weight.step",
    ]


def test_model_and_optimiser_survive_a_round_trip(tmp_path: Path) -> None:
    model, optimizer = trained()
    shards = saved(tmp_path, model, optimizer)
    other, fresh = Tied(), torch.optim.AdamW([{"params": [], "names": []}])
    fresh.param_groups[0] |= {
        "params": [*other.parameters()],
        "names": [n for n, _ in other.named_parameters()],
    }
    weights, averages = model_targets(other, shards), optimizer_targets(fresh, shards)
    shards.fill({**weights, **averages}, ALONE)
    assert torch.equal(other.second.weight, model.first.weight)
    rest = without_tensors(optimizer.state_dict())
    assert all(values == {} for values in rest["state"].values())
    whole = with_tensors(rest, averages)
    expected = optimizer.state_dict()["state"]
    assert whole["state"].keys() == expected.keys()
    for number, values in expected.items():
        assert values.keys() == whole["state"][number].keys()
        assert all(torch.equal(value, whole["state"][number][key]) for key, value in values.items())


def test_plain_values_of_an_optimiser_are_separated() -> None:
    state = {
        "state": {0: {"step": 3, "exp_avg": torch.ones(2)}},
        "param_groups": [{"params": [0], "names": ["a.b"]}],
    }
    tensors = optimizer_tensors(state)
    assert [*tensors] == ["optimizer.a.b.exp_avg"]
    assert without_tensors(state)["state"] == {0: {"step": 3}}
    assert with_tensors(without_tensors(state), tensors) == state


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    shards = saved(tmp_path, *trained())
    with pytest.raises(CheckpointError, match=r"first.bias: \[3\] in the checkpoint, \[4\] in the model"):
        model_targets(Tied(4), shards)
    with pytest.raises(CheckpointError, match="count is only in the checkpoint"):
        model_targets(nn.ModuleDict({"first": nn.Linear(3, 3)}), shards)
    _, larger = trained(4)
    with pytest.raises(CheckpointError, match=r"exp_avg: \[3\], but the parameter has \[4\]"):
        optimizer_targets(larger, shards)
