"""Activation checkpointing: equal losses and gradients from fewer kept activations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.benchmarks.step import CPU, look, our_step
from tests.benchmarks.step_batch import Task, make_task
from tests.training.conftest import Written
from x2kit.errors import RecipeError
from x2kit.model.device import autocast
from x2kit.training.parallel.activation_checkpointing import checkpoint_activations

SIZES = {
    "vision": {"image_size": 32, "width": 32, "depth": 3, "heads": 2, "drop_path": 0.1},
    "text": {"layers": 2, "width": 32, "heads": 2, "vocab_size": 200, "max_length": 40, "dropout": 0.1},
    "fusion": {"layers": 2, "heads": 2, "dropout": 0.1},
}


@pytest.fixture
def task() -> Task:
    return make_task(
        2, {f"model.{part}.init_args.{k}": v for part, of in SIZES.items() for k, v in of.items()}
    )


def differentiated(task: Task, precision: str = "fp32") -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
    """Return losses and gradients of a seeded step, and the bytes that autograd kept."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = look(task, our_step(task, precision))
    return found.losses, found.gradients, sum(kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_losses_and_gradients_are_equal_with_dropout(task: Task, precision: str) -> None:
    losses, gradients, _ = differentiated(task, precision)
    assert checkpoint_activations(task.model, lambda: autocast(CPU, precision)) == 7
    again, found, _ = differentiated(task, precision)
    torch.testing.assert_close(again, losses, rtol=0, atol=0)
    torch.testing.assert_close(found, gradients, rtol=0, atol=0)  # equal operations in equal order


def test_fewer_activations_are_kept(task: Task) -> None:
    before = differentiated(task)[2]
    checkpoint_activations(task.model)
    assert differentiated(task)[2] < before / 2


def test_parameters_keep_their_names(task: Task) -> None:
    names = list(task.model.state_dict())
    checkpoint_activations(task.model)
    assert list(task.model.state_dict()) == names


def test_layers_are_members_of_the_innermost_stacks() -> None:
    def block() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 2), nn.GELU())

    stages = nn.ModuleList(nn.Sequential(block(), block()) for _ in range(3))
    assert checkpoint_activations(nn.ModuleDict({"stages": stages, "head": nn.Sequential(block())})) == 6


def test_parts_of_the_model_can_be_chosen(task: Task) -> None:
    assert checkpoint_activations(task.model, parts=["text", "fusion"]) == 4
    recomputed = {name for name, layer in task.model.named_modules() if "forward" in vars(layer)}
    assert {name.partition(".")[0] for name in recomputed} == {"text", "fusion"}


@pytest.mark.parametrize("chosen", [True, ("vision", "fusion")])
def test_recipe_key_turns_it_on(written: Written, chosen: object) -> None:
    assert not written().recipe.training.activation_checkpointing
    assert written(activation_checkpointing=chosen).recipe.training.activation_checkpointing == chosen


def test_recipe_key_names_the_encoders(written: Written) -> None:
    with pytest.raises(RecipeError, match="activation_checkpointing"):
        written(activation_checkpointing=["heads"])
