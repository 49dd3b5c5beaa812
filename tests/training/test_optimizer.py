from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.parity.conftest import Recording, record
from x2kit.model import X2VLM
from x2kit.training.config import TrainingConfig
from x2kit.training.optimizer import (
    build_optimizer,
    clip_gradients,
    parameter_groups,
    rate_factor,
    set_rate,
    warmup_steps,
)

ENCODERS = ("vision", "text", "fusion")

HEADS_FROM_A_CHECKPOINT = {
    "xvlm": {"mlm_head"},
    "cclm": {"temperature", "vision_proj", "text_proj", "itm_head", "bbox_head", "mlm_head"},
}
"""Heads that the recorded run had read from a checkpoint; x2kit's are new in every run."""


def as_recorded(recording: Recording) -> dict[str, Any]:
    """The recorded tables, and the model's encoders made as fresh as the recorded ones were."""
    recorded = recording.json("param_groups")
    fresh = set(recorded["init_params"])
    for part in ENCODERS:
        encoder = getattr(recording.model, part)
        names = {
            name
            for name, _ in encoder.named_parameters()
            if any(official in fresh for official in recording.names[f"{part}.{name}"].split("+"))
        }
        encoder.fresh = lambda names=names: names
    return recorded


def settings(args: dict[str, float], which: str) -> TrainingConfig:
    ours = dict(args)
    if "cross_lr" in ours:
        ours["fusion_lr"] = ours.pop("cross_lr")
    elif which == "xvlm" and "text_lr" in ours:
        ours["fusion_lr"] = ours["text_lr"]  # the official text encoder holds the fusion layers
    return TrainingConfig(steps=1, **ours)


def rates(model: X2VLM, config: TrainingConfig) -> dict[str, tuple[float, float]]:
    return {
        name: (group["peak"], group["weight_decay"])
        for group in parameter_groups(model, config)
        for name in group["names"]  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize(
    ("which", "table"),
    [
        ("xvlm", "pretraining"),
        ("xvlm", "with_vision_and_text_lr"),
        ("cclm", "plain"),
        ("cclm", "with_vision_text_cross_lr"),
    ],
)
def test_rates_and_decay_are_the_recorded_ones(which: str, table: str) -> None:
    recording = record(which)
    recorded = as_recorded(recording)[table]
    config = settings(recorded["args"], which)
    found = rates(recording.model, config)
    assert set(found) == {name for name, _ in recording.model.named_parameters()}
    compared = 0
    for name, (rate, decay) in found.items():
        for official in recording.names[name].split("+"):
            if name == "mlm_head.decoder.bias":
                official = official.replace("decoder.bias", "bias")  # recorded under its other name
            expected = recorded["table"][official]
            assert decay == expected["weight_decay"], name
            if name.partition(".")[0] in HEADS_FROM_A_CHECKPOINT[which]:
                assert_close(rate, config.lr * config.lr_mult, msg=name)
            else:
                assert_close(rate, expected["lr"], msg=name)
                compared += 1
    assert compared > 80


def test_every_parameter_is_in_one_group(model: X2VLM) -> None:
    groups = parameter_groups(model, TrainingConfig(steps=1, vision_lr=0.5, weight_decay=0.1))
    found = [id(parameter) for group in groups for parameter in group["params"]]  # type: ignore[attr-defined]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())
    assert len({(group["peak"], group["weight_decay"]) for group in groups}) == len(groups) == 4


def test_an_own_rate_wins_over_the_factor_of_new_parameters(model: X2VLM) -> None:
    found = rates(model, TrainingConfig(steps=1, lr=0.1, lr_mult=3, text_lr=0.7))
    assert found["text.mix.weight"][0] == 0.7
    assert_close(found["vision.patches.weight"][0], 0.3)
    model.vision.fresh = set  # type: ignore[method-assign]
    assert rates(model, TrainingConfig(steps=1, lr=0.1, lr_mult=3))["vision.patches.weight"][0] == 0.1


def test_frozen_parameters_are_left_out(model: X2VLM) -> None:
    model.vision.requires_grad_(False)
    assert not any(name.startswith("vision.") for name in rates(model, TrainingConfig(steps=1)))


def test_what_an_encoder_exempts_does_not_decay(model: X2VLM) -> None:
    config = TrainingConfig(steps=1, weight_decay=0.1)
    assert rates(model, config)["text.embedding.weight"][1] == 0.1
    model.text.no_decay = lambda: {"embedding.weight"}  # type: ignore[method-assign]
    assert rates(model, config)["text.embedding.weight"][1] == 0


def test_the_cosine_schedule_goes_down_to_nothing() -> None:
    config = TrainingConfig(steps=10, warmup=2, schedule="cosine")
    found = [rate_factor(step, config) for step in range(11)]
    expected = [(1 + math.cos(math.pi * step / 8)) / 2 for step in range(9)]
    assert_close(found, [0.0, 0.5, *expected])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 3, 0.25])
def test_rates_never_fall_below_the_smallest_share_nor_rise_after_warmup(
    schedule: str, warmup: float
) -> None:
    config = TrainingConfig(steps=20, warmup=warmup, schedule=schedule, min_lr_factor=0.2)
    found = [rate_factor(step, config) for step in range(warmup_steps(config), 30)]
    assert found == sorted(found, reverse=True)
    assert min(found) == found[-1] == 0.2


def test_without_warmup_the_linear_schedule_is_the_line_to_the_smallest_share() -> None:
    config = TrainingConfig(steps=4, warmup=0, min_lr_factor=0.2)
    assert_close([rate_factor(step, config) for step in range(6)], [1.0, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_rates_are_shares_of_the_peaks(model: X2VLM) -> None:
    optimizer = build_optimizer(model, TrainingConfig(steps=1, lr=0.2, vision_lr=0.5))
    set_rate(optimizer, 0.25)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.1, 0.125]


def test_gradients_are_scaled_down_to_the_norm_and_never_up(model: X2VLM) -> None:
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
