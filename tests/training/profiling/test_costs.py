"""Costs told without computing anything are those of a real step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.conftest import Written
from x2kit.data.config import loss_phases
from x2kit.data.pipeline.corpus import training_texts
from x2kit.model.build import build_model
from x2kit.recipe.validation import losses_on
from x2kit.training.profiling.costs import (
    count_operations,
    meta_batch,
    meta_model,
    meta_negatives,
    parameter_count,
    phase_costs,
    step_costs,
)
from x2kit.training.step.losses import step_losses


def _real(value: Any) -> Any:
    """The same with memory: numbers 0, all texts and patches there."""
    if isinstance(value, Tensor):
        return (torch.ones if value.dtype == torch.bool else torch.zeros)(value.shape, dtype=value.dtype)
    if isinstance(value, dict):
        return {name: _real(item) for name, item in value.items()}
    return (
        type(value)(*map(_real, value)) if isinstance(value, tuple) and hasattr(value, "_fields") else value
    )


def test_operations_are_those_of_a_real_step(written: Written) -> None:
    recipe = written().recipe
    active = {name: losses_on(stream) for name, stream in recipe.data.streams.items()}
    image = recipe.model.vision.describe().image
    model = meta_model(recipe.model, recipe.data)
    told = step_costs(model, image, recipe.data, active)

    real = build_model(recipe.model, training_texts(recipe.data)).eval()
    assert parameter_count(real) == parameter_count(model)
    batch = _real(meta_batch(image, recipe.data))
    with count_operations() as counter:
        losses = step_losses(real, batch, active, _real(meta_negatives(batch)))
        forward = counter.get_total_flops()
        torch.stack([loss for each in losses.values() for loss in each.values()]).sum().backward()
    assert told.flops == 3 * forward
    # The backward pass is taken as twice the forward one: attention makes its scores again, the first layer has no
    # inputs to learn.
    assert told.flops == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_twice_the_rows_keep_twice_the_activations(written: Written) -> None:
    recipe = written().recipe
    image, model = recipe.model.vision.describe().image, meta_model(recipe.model, recipe.data)

    def kept(factor: int) -> int:
        from x2kit.training.profiling.bench import scale_batches

        data = scale_batches(recipe.data, factor)
        active = {name: losses_on(stream) for name, stream in data.streams.items()}
        return step_costs(model, image, data, active).activations

    assert kept(2) == pytest.approx(2 * kept(1), rel=0.05)


def test_a_phase_costs_what_a_step_with_its_losses_costs(written: Written) -> None:
    recipe = written({"images": {"losses": {"itm": {"start": 0.5}, "mlm": {"start": 0.5}}}}).recipe
    phases = loss_phases(recipe.data, 10)
    real = build_model(recipe.model, training_texts(recipe.data))
    before = {name: value.clone() for name, value in real.state_dict().items()}
    image, meta = recipe.model.vision.describe().image, meta_model(recipe.model, recipe.data)
    expected = [step_costs(meta, image, recipe.data, phase.losses).flops for phase in phases]
    assert phase_costs(real, recipe.data, phases) == expected
    assert expected[0] < expected[1]
    assert all(torch.equal(before[name], value) for name, value in real.state_dict().items())
    assert real.training


def test_a_stream_from_which_nothing_is_learned_yet_costs_nothing(written: Written) -> None:
    later = {name: {"start": 0.5} for name in ("ttc", "ttm", "tlm")}
    recipe = written({"parallel": {"losses": later}}).recipe
    first, second = phase_costs(
        build_model(recipe.model, training_texts(recipe.data)), recipe.data, loss_phases(recipe.data, 10)
    )
    assert first < second
