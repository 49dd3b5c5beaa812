"""A step never asks for the value of a tensor, for which a GPU would have to finish all that it was given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.benchmarks.step_batch import ACTIVE, make_task
from tests.training.parallel.test_activation_checkpointing import SIZES
from x2kit.training.step.losses import step_losses
from x2kit.training.stepper import Stepper, assemble

from .conftest import Written

aten = torch.ops.aten
ASKING = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
}


class NobodyAsks(TorchDispatchMode):
    """Refuses what hands a value to Python, or a shape that depends on one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in ASKING, f"{func} in a step"
        return func(*args, **(kwargs or {}))


def test_no_value_is_asked_for_forward_and_backward() -> None:
    sizes = {f"model.{part}.init_args.{key}": v for part, of in SIZES.items() for key, v in of.items()}
    task = make_task(2, sizes)
    with NobodyAsks():
        found = step_losses(task.model, task.batch, ACTIVE)  # negatives are drawn
        torch.stack([value for on in found.values() for value in on.values()]).sum().backward()


@pytest.mark.parametrize("non_finite", ["stop", "skip"])
def test_no_value_is_asked_for_in_a_whole_step(written: Written, non_finite: str) -> None:
    recipe = written(non_finite=non_finite).recipe
    parts, _ = assemble(recipe, lambda switched_on: None)
    batch, stepper = parts.batches.batch(0), Stepper(recipe, parts, 0)
    with NobodyAsks():
        stepper.step(batch)
    assert stepper.guard.read().skipped == []


def test_asking_is_noticed() -> None:
    with NobodyAsks(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        torch.ones(1).item()
