"""Parameter groups, learning rates and clipping on tiny encoders; tests/parity has the recorded groups."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from x2kit.errors import PluginError
from x2kit.model import X2VLM
from x2kit.training.config import TrainingConfig
from x2kit.training.optim import optimizer as module
from x2kit.training.optim.optimizer import (
    build_optimizer,
    clip_gradients,
    parameter_groups,
    rate_factor,
    set_rate,
)


def rates(model: X2VLM, config: TrainingConfig) -> dict[str, tuple[float, float]]:
    return {
        name: (group["peak"], group["weight_decay"])
        for group in parameter_groups(model, config)
        for name in group["names"]
    }


def test_every_parameter_is_in_exactly_one_group(model: X2VLM) -> None:
    groups = parameter_groups(model, TrainingConfig(steps=1, vision_lr=0.5, weight_decay=0.1))
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())
    kinds = {(group["peak"], group["weight_decay"], group["matrices"]) for group in groups}
    assert len(kinds) == len(groups) == 5


def test_rate_of_an_encoder_overrides_lr_mult(model: X2VLM) -> None:
    found = rates(model, TrainingConfig(steps=1, lr=0.1, lr_mult=3, text_lr=0.7))
    assert found["text.mix.weight"][0] == 0.7
    assert_close(found["vision.patches.weight"][0], 0.3)
    model.vision.fresh = set  # type: ignore[method-assign]
    assert rates(model, TrainingConfig(steps=1, lr=0.1, lr_mult=3))["vision.patches.weight"][0] == 0.1


def test_masked_language_head_has_its_own_rate(model: X2VLM) -> None:
    found = rates(model, TrainingConfig(steps=1, lr=0.1, lr_mult=3, text_lr=0.7, mlm_head_lr=0.7))
    assert found["mlm_head.dense.weight"][0] == 0.7
    assert_close(found["itm_head.0.weight"][0], 0.3)


def test_frozen_parameters_are_in_no_group(model: X2VLM) -> None:
    model.vision.requires_grad_(False)
    assert not any(name.startswith("vision.") for name in rates(model, TrainingConfig(steps=1)))


def test_no_decay_of_an_encoder_is_respected(model: X2VLM) -> None:
    config = TrainingConfig(steps=1, weight_decay=0.1)
    assert rates(model, config)["text.embedding.weight"][1] == 0.1
    model.text.no_decay = lambda: {"embedding.weight"}  # type: ignore[method-assign]
    assert rates(model, config)["text.embedding.weight"][1] == 0


def test_hidden_matrices_are_the_linear_maps_of_encoders(model: X2VLM) -> None:
    found = {
        name
        for group in parameter_groups(model, TrainingConfig(steps=1))
        for name in group["names"]
        if group["matrices"]
    }
    assert "fusion.layers.0.self_attention.query.weight" in found
    assert "text.mix.weight" in found
    assert not any("embedding" in name or "bias" in name or "norm" in name for name in found)
    assert not any(
        name.startswith(("itm_head.", "mlm_head.", "vision_proj.", "bbox_head.")) for name in found
    )
    model.text.hidden_matrices = set  # type: ignore[method-assign]
    groups = parameter_groups(model, TrainingConfig(steps=1))
    assert not any("text.mix.weight" in group["names"] for group in groups if group["matrices"])


@pytest.mark.parametrize(
    ("name", "said"), [("mix.bias", r"no matrix of it: \[8\]"), ("missing", "no such parameter")]
)
def test_wrong_names_of_hidden_matrices_are_faults_of_the_encoder(model: X2VLM, name: str, said: str) -> None:
    model.text.hidden_matrices = lambda: {name}  # type: ignore[method-assign]
    with pytest.raises(PluginError, match=rf"TinyTextEncoder \(text\): hidden_matrices\(\) names .*{said}"):
        parameter_groups(model, TrainingConfig(steps=1))


def test_cosine_schedule_ends_at_zero() -> None:
    config = TrainingConfig(steps=10, warmup=2, schedule="cosine")
    found = [rate_factor(step, config) for step in range(11)]
    expected = [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(9)]
    assert_close(found, [0.0, 0.5, *expected])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 3, 0.25])
def test_rates_fall_after_warmup_to_min_lr_factor(schedule: str, warmup: float) -> None:
    config = TrainingConfig(steps=20, warmup=warmup, schedule=schedule, min_lr_factor=0.2)
    found = [rate_factor(step, config) for step in range(config.warmup_steps, 30)]
    assert found == sorted(found, reverse=True)
    assert min(found) == found[-1] == 0.2


def test_linear_schedule_without_warmup() -> None:
    config = TrainingConfig(steps=4, warmup=0, min_lr_factor=0.2)
    assert_close([rate_factor(step, config) for step in range(6)], [1.0, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_constant_schedule_decays_in_its_last_steps() -> None:
    config = TrainingConfig(steps=10, warmup=2, schedule="constant", decay_ratio=0.4, min_lr_factor=0.2)
    found = [rate_factor(step, config) for step in range(11)]
    assert_close(found, [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2])
    constant = TrainingConfig(steps=10, warmup=0, schedule="constant")
    assert {rate_factor(step, constant) for step in range(11)} == {1.0}


def test_decay_ratio_of_another_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="decay_ratio: schedule cosine decays in all steps after warm-up"):
        TrainingConfig(steps=10, schedule="cosine", decay_ratio=0.1)


def test_layer_decay_multiplies_the_rate_for_each_layer_above(model: X2VLM) -> None:
    model.vision.fresh = model.text.fresh = model.fusion.fresh = set  # type: ignore[method-assign]
    found = rates(model, TrainingConfig(steps=1, lr=1.0, lr_mult=3, layer_decay=0.5, text_lr=8.0))
    assert found["fusion.layers.0.self_attention.query.weight"][0] == 0.25
    assert found["fusion.layers.1.self_attention.query.weight"][0] == 0.5
    assert found["text.mix.weight"][0] == 8.0, "an encoder without layers"
    assert found["itm_head.0.weight"][0] == 3.0


def test_layer_decay_leaves_new_parameters_alone(model: X2VLM) -> None:
    found = rates(model, TrainingConfig(steps=1, lr=1.0, lr_mult=3, layer_decay=0.5))
    assert {rate for rate, _ in found.values()} == {3.0}


def test_set_rate_scales_the_peak_rates(model: X2VLM) -> None:
    optimizer = build_optimizer(model, TrainingConfig(steps=1, lr=0.2, vision_lr=0.5))
    set_rate(optimizer, 0.25)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.1, 0.125]


def test_gradients_are_scaled_down_and_never_up(model: X2VLM) -> None:
    def norm() -> float:
        return math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))

    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = norm()
    assert_close(clip_gradients(model, None).item(), before)
    assert_close(norm(), before)
    assert_close(clip_gradients(model, 2.0).item(), before)
    assert_close(norm(), 2.0, rtol=1e-5, atol=0)
    clip_gradients(model, 5.0)
    assert_close(norm(), 2.0, rtol=1e-5, atol=0)


def test_norm_ignores_groups_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's norm of no gradients is on the CPU, wherever the others are."""
    plain = module.get_total_norm

    def of_some(gradients: list[Tensor]) -> Tensor:
        assert gradients
        return plain(gradients)

    monkeypatch.setattr(module, "get_total_norm", of_some)
    assert module._norm_over([[torch.tensor([3.0]), torch.tensor([4.0])], []]) == 5
    assert module._norm_over([[torch.ones(2, device="meta")], []]).device.type == "meta"
    assert module._norm_over([[torch.tensor([3.0])], [torch.tensor([4.0])]]) == 5
    assert module._norm_over([[], []]) == 0
