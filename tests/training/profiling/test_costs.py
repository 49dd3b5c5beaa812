"""Counted operations and activations against real steps and counts by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.training.conftest import Written
from tests.training.parts.test_runs import recipe as parts_recipe
from x2kit.data.config import loss_phases
from x2kit.data.pipeline.corpus import training_texts
from x2kit.model import packing
from x2kit.model.build import build_model
from x2kit.recipe import read_recipe
from x2kit.recipe.validation import losses_on
from x2kit.training.parts.trained import select_trained
from x2kit.training.profiling.batch_size import scale_batches
from x2kit.training.profiling.costs import (
    count_operations,
    meta_batch,
    meta_model,
    meta_negatives,
    parameter_count,
    phase_costs,
    step_costs,
)
from x2kit.training.step import fusion_pass
from x2kit.training.step.losses import step_losses

B, H, L, N, D = 2, 3, 5, 7, 8


def _real(value: Any) -> Any:
    """Replace meta tensors by zeros, and masks by True."""
    if isinstance(value, Tensor):
        return (torch.ones if value.dtype == torch.bool else torch.zeros)(value.shape, dtype=value.dtype)
    if isinstance(value, dict):
        return {name: _real(item) for name, item in value.items()}
    return (
        type(value)(*map(_real, value)) if isinstance(value, tuple) and hasattr(value, "_fields") else value
    )


def _as_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts are as long as they may be, and hard negatives are unknown to the host."""
    for module in (packing, fusion_pass):
        monkeypatch.setattr(module, "host_reads", lambda device: False)


def test_operations_equal_those_of_a_real_step(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    _as_on_an_accelerator(monkeypatch)
    recipe = written().recipe
    active = {name: losses_on(stream) for name, stream in recipe.data.streams.items()}
    image = recipe.model.vision.describe().image
    model = meta_model(recipe.model, recipe.data)
    estimated = step_costs(model, image, recipe.data, active)

    real = build_model(recipe.model, training_texts(recipe.data)).eval()
    assert parameter_count(real) == parameter_count(model)
    batch = _real(meta_batch(image, recipe.data))
    with count_operations() as counter:
        losses = step_losses(real, batch, active, _real(meta_negatives(batch)))
        forward = counter.get_total_flops()
        torch.stack([loss for each in losses.values() for loss in each.values()]).sum().backward()
    assert estimated.flops == 3 * forward
    # The backward pass is estimated as twice the forward pass: attention recomputes its scores, and the first layer
    # needs no gradient of its inputs.
    assert estimated.flops == pytest.approx(counter.get_total_flops(), rel=0.1)


@pytest.mark.parametrize(
    "parts",
    [
        {"vision": "none", "text": "none"},
        {"vision": "none", "text": "none", "fusion": "norms"},
        {"fusion": "none"},
        {"fusion": {"lora": {"rank": 1}}},
    ],
    ids=str,
)
def test_frozen_parts_cost_no_backward_pass(
    written: Written, tmp_path: Path, parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the gradients of a real step; heads and temperature are trained."""
    _as_on_an_accelerator(monkeypatch)
    if "lora" in str(parts):
        pytest.importorskip("peft")
    recipe = read_recipe([parts_recipe(tmp_path, trainable=parts)]).recipe
    active = {name: losses_on(stream) for name, stream in recipe.data.streams.items()}
    image, config = recipe.model.vision.describe().image, recipe.training.trainable
    model = meta_model(recipe.model, recipe.data)
    whole = step_costs(model, image, recipe.data, active)
    select_trained(model, config)
    estimated = step_costs(model, image, recipe.data, active)

    real = build_model(recipe.model, training_texts(recipe.data)).eval()
    select_trained(real, config)
    batch = _real(meta_batch(image, recipe.data))
    with count_operations() as counter:
        losses = step_losses(real, batch, active, _real(meta_negatives(batch)))
        torch.stack([loss for each in losses.values() for loss in each.values()]).sum().backward()
    assert estimated.flops == pytest.approx(
        counter.get_total_flops(), rel=0.2
    )  # attention recomputes its scores
    assert estimated.flops < whole.flops or "lora" in str(parts)
    if parts.get("vision") == "none":
        assert estimated.activations < whole.activations


def test_activations_double_with_the_rows(written: Written) -> None:
    recipe = written().recipe
    image, model = recipe.model.vision.describe().image, meta_model(recipe.model, recipe.data)

    def kept(factor: int) -> int:
        data = scale_batches(recipe.data, factor)
        active = {name: losses_on(stream) for name, stream in data.streams.items()}
        return step_costs(model, image, data, active).activations

    assert kept(2) == pytest.approx(2 * kept(1), rel=0.05)


def test_phase_costs_equal_costs_of_a_step_with_its_losses(written: Written) -> None:
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


def test_stream_without_a_loss_in_a_phase_is_not_counted(written: Written) -> None:
    later = {name: {"start": 0.5} for name in ("ttc", "ttm", "tlm")}
    recipe = written({"parallel": {"losses": later}}).recipe
    first, second = phase_costs(
        build_model(recipe.model, training_texts(recipe.data)), recipe.data, loss_phases(recipe.data, 10)
    )
    assert first < second


@pytest.mark.parametrize("masked", [False, True])
def test_attention_has_two_products_forward_and_five_backward(masked: bool) -> None:
    query = torch.randn(B, H, L, D, requires_grad=True)
    key, value = (torch.randn(B, H, N, D, requires_grad=True) for _ in range(2))
    mask = torch.ones(B, 1, L, N, dtype=torch.bool) if masked else None
    product = 2 * B * H * L * N * D
    with count_operations() as forward:
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert forward.get_total_flops() == 2 * product
    with count_operations() as backward:
        out.sum().backward()
    assert backward.get_total_flops() == 5 * product


def test_attention_with_a_learned_bias() -> None:
    """The fused kernel has no gradient of a bias, so products are separate and scores are not recomputed."""
    query, key, value = (torch.randn(B, H, L, D, requires_grad=True) for _ in range(3))
    bias = torch.zeros(1, H, L, L, requires_grad=True)
    with count_operations() as counter:
        F.scaled_dot_product_attention(query, key, value, attn_mask=bias).sum().backward()
    assert counter.get_total_flops() == 6 * (2 * B * H * L * L * D)


def test_linear_layer_has_one_product_forward_and_two_backward() -> None:
    layer = nn.Linear(D, 4 * D)
    inputs = torch.randn(B, L, D, requires_grad=True)
    with count_operations() as counter:
        layer(inputs).sum().backward()
    assert counter.get_total_flops() == 3 * (2 * B * L * D * 4 * D)
