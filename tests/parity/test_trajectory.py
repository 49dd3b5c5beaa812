"""Recorded training runs, repeated with x2kit's step, optimiser and schedule.

Hard negatives are the recorded ones instead of drawn ones; everything else is `Stepper.step`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
import torch
from torch import Tensor

from tests.data.stubs import StubScenes
from x2kit.data.config import DataConfig, StreamConfig
from x2kit.data.pipeline.batch import Batch
from x2kit.model import X2VLM
from x2kit.tasks import ImageText, ParallelText, RegionText
from x2kit.training import stepper as stepping
from x2kit.training.config import TrainingConfig
from x2kit.training.optim import AdamW, OfficialAdamW
from x2kit.training.optim.optimizer import build_optimizer
from x2kit.training.step.losses import step_losses
from x2kit.training.step.plan import Active, Negatives

from .conftest import Recording
from .evidence import check
from .steps import MAKE, OFFICIAL_NAMES, as_new_as_recorded, joined, negatives_of, rate_settings, with_twins

LOSS = {"official": 1e-4, "torch": 3e-4}
"""Of every loss of every step, by update rule: torch's differs from the official one on purpose."""
NORM = 1e-4
"""Relative."""
PARAMETER = 2e-5
"""After the last step; of the temperature, which is one, before every step."""
RATE = 1e-12
"""Of the largest; both are a few operations in double precision."""

TASKS = {"image": ImageText(), "region": RegionText(), "para_text": ParallelText()}
WEIGHT = {"image": "image_iter_perc", "region": "region_iter_perc", "para_text": "mtext_iter_perc"}
"""Recorded factor of a stream's losses."""
NEGATIVES = {"image": "", "region": "region_", "para_text": ""}
"""Prefix of a stream's recorded negatives."""
RULES = {"torch": AdamW, "official": OfficialAdamW}
RATES = {"lr", "lr_mult", "vision_lr", "text_lr", "cross_lr"}
"""Settings that decide which groups there are."""


class Step(NamedTuple):
    """What a step of the product was: its values as it logs them, and what is not logged."""

    values: dict[str, float]
    temperature: float
    """Before the forward pass."""
    rates: dict[str, float]
    """By own parameter name."""


def training_config(recording: Recording, settings: Mapping[str, Any], rule: str) -> TrainingConfig:
    return TrainingConfig(
        **rate_settings(recording, settings),
        weight_decay=settings["wd"],
        steps=settings["total"],
        warmup=settings["warmup"],
        schedule=settings["schedule"],
        clip_norm=settings["clip"],
        optimizer=RULES[rule](betas=settings["betas"], eps=settings["eps"]),
    )


def data_config(settings: Mapping[str, Any]) -> DataConfig:
    """The recorded weights of the streams. Batches are recorded ones, so no source is ever opened."""
    streams = {
        name: StreamConfig(task=TASKS[name], source=StubScenes(), batch_size=1, weight=settings[weight])
        for name, weight in WEIGHT.items()
        if weight in settings
    }
    return DataConfig(streams=streams)


def second_batch(tensors: Mapping[str, Tensor], stream: str) -> dict[str, Tensor]:
    """A stream's part of the batch that was recorded for training alone, named as the other batches are."""
    return {
        key.replace(f"{stream}.", "in.", 1): tensor
        for key, tensor in tensors.items()
        if key.startswith(f"{stream}.")
    }


def batches(recording: Recording, streams: Iterable[str]) -> tuple[Batch, Batch]:
    """The two batches that take turns: that of the other recordings, and one for training alone."""
    tensors = recording.tensors("train_batch1")
    return (
        joined([MAKE[name](recording.tensors(f"{name}_batch")) for name in streams]),
        joined([MAKE[name](second_batch(tensors, name)) for name in streams]),
    )


def follow(recording: Recording, rule: str, monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """Train the recorded model as the recorded run did; leaves it as the last step left it."""
    log, model = recording.json("train_log"), recording.model
    settings = log["settings"]
    as_new_as_recorded(recording)
    if "temp_init" in settings:
        torch.nn.init.constant_(model.temperature, settings["temp_init"])
    config, data = training_config(recording, settings, rule), data_config(settings)
    recipe = cast(stepping.Recipe, SimpleNamespace(training=config, data=data))
    optimizer = build_optimizer(model.train(), config)
    no_batches = cast(Any, None)
    stepper = stepping.Stepper(
        recipe, stepping.Parts(model, optimizer, torch.device("cpu"), no_batches), done=0
    )
    temperatures: list[float] = []

    def with_recorded_negatives(model: X2VLM, batch: Batch, active: Active, **named: Any) -> Any:
        temperatures.append(model.temperature.item())
        recorded = log["steps"][stepper.done]
        negatives: dict[str, Negatives] = {
            name: negatives_of(name, recorded, NEGATIVES[name]) for name in data.streams
        }
        return step_losses(model, batch, active, negatives, **named)

    monkeypatch.setattr(stepping, "step_losses", with_recorded_negatives)
    steps, available = [], batches(recording, data.streams)
    for recorded in log["steps"]:
        assert recorded["step"] == stepper.done
        values = stepper.step(available[recorded["batch"]])
        rates = {name: group["lr"] for group in optimizer.param_groups for name in group["names"]}
        steps.append(Step({name: float(value) for name, value in values.items()}, temperatures.pop(), rates))
        stepper.done += 1
    return steps


@pytest.mark.parametrize("rule", LOSS)
def test_losses_of_every_step(recording: Recording, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file, log = f"{recording.folder.name}/train_log.json", recording.json("train_log")
    found = follow(recording, rule, monkeypatch)
    tasks = {name: task for name, task in TASKS.items() if name in log["steps"][0]}
    assert tasks
    for name, task in tasks.items():
        for loss in task.losses:
            official = OFFICIAL_NAMES.get(loss, f"loss_{loss}")
            own = [step.values[f"{name}.{loss}"] for step in found]
            expected = [step[name][official] for step in log["steps"]]
            check(file, f"{name}.{official}, rule {rule}", own, expected, atol=LOSS[rule])
        assert {len(step[name]) for step in log["steps"]} == {len(task.losses)}
    totals = [step.values["loss"] for step in found]
    recorded = {
        "loss_total": [step["loss_total"] for step in log["steps"]],
        "losses_total_float64": log["losses_total_float64"],
    }
    for quantity, expected in recorded.items():
        check(file, f"{quantity}, rule {rule}", totals, expected, atol=LOSS[rule])


def test_norms_temperatures_and_rates_of_every_step(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, log = f"{recording.folder.name}/train_log.json", recording.json("train_log")["steps"]
    groups = official_groups(recording)
    for own, recorded in zip(follow(recording, "official", monkeypatch), log, strict=True):
        norm, temperature = recorded["grad_norm_before_clip"], recorded["temp_before_forward"]
        check(file, "grad_norm_before_clip", own.values["gradient_norm"], norm, rtol=NORM)
        check(file, "temp_before_forward", own.temperature, temperature, atol=PARAMETER)
        rates = {own_name: recorded["lr"][group] for own_name, group in groups.items()}
        assert rates.keys() == own.rates.keys()
        check(file, "lr", [own.rates[name] for name in rates], list(rates.values()), rtol=RATE)


def official_groups(recording: Recording) -> dict[str, int]:
    """The number of the official group of each own parameter, with the rates that the run has named."""
    settings = recording.json("train_log")["settings"]
    (table,) = (
        table["table"]
        for name, table in recording.json("param_groups").items()
        if name != "init_params" and table["args"].keys() - {"weight_decay"} == settings.keys() & RATES
    )
    numbers = {name: values["group"] for name, values in table.items()}
    for tied in recording.config["tied"]:
        (known,) = {numbers[name] for name in tied if name in numbers}
        numbers |= dict.fromkeys(tied, known)
    found = {}
    for own, _ in recording.model.named_parameters():
        (found[own],) = {numbers[name] for name in recording.names[own]}
    return found


def test_final_parameters(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them; where the gradient is zero but for rounding, Adam makes up to a step of it."""
    follow(recording, "official", monkeypatch)
    step = max(rate for step in recording.json("train_log")["steps"] for rate in step["lr"])
    expected = recording.tensors("train_final")
    found = recording.by_official_name(dict(recording.model.named_parameters()))
    assert with_twins(recording, expected) == found.keys()
    for name, tensor in expected.items():
        atol = step if name.endswith("key.bias") else PARAMETER
        check(f"{recording.folder.name}/train_final.safetensors", name, found[name], tensor, atol=atol)
