"""Averages of weights: their values, what is validated and exported, and how a run resumes with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.training.conftest import Written
from tests.training.test_trainer import after
from tests.training.test_validation import METRIC, Scripted, equal, run
from x2kit.errors import X2KitError
from x2kit.model import X2VLM
from x2kit.plugin import OptimizerConfig
from x2kit.training.checkpoint.checkpoints import checkpoints, read_state
from x2kit.training.config import TrainingConfig
from x2kit.training.optim.averaging import AveragedWeights


class Halving(torch.optim.SGD):
    """Measured with half of the weights, inexactly: a third is given back."""

    def eval(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.mul_(0.5)

    def train(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.mul_(3.0)


class Half(OptimizerConfig):
    """SGD that is measured with half of the weights."""

    def build(self, groups: Any) -> torch.optim.Optimizer:
        """Build it."""
        return Halving(groups)


def averages(decay: float | None, use: bool = True) -> tuple[nn.Linear, AveragedWeights]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, AveragedWeights(model, optimizer, TrainingConfig(ema=decay, use_ema=use))


def test_averages_follow_the_rule() -> None:
    model, averaged = averages(0.5)
    expected = model.weight.detach().clone()
    for step in range(20):
        model.weight.data += step
        averaged.update(step)
        factor = min(0.5, (1 + step) / (10 + step))
        expected = factor * expected + (1 - factor) * model.weight.detach()
    assert_close(averaged.kept["weight"], expected)
    assert averaged.kept.keys() == {"weight", "bias"}


def test_the_model_has_the_averages_in_the_block_alone() -> None:
    model, averaged = averages(0.9)
    before = model.weight.detach().clone()
    model.weight.data += 1
    now = model.weight.detach().clone()
    with averaged.in_model():
        assert torch.equal(model.weight, before)
    assert torch.equal(model.weight, now)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_trained_weights_are_measured_without_averages_or_on_wish(decay: float | None) -> None:
    model, averaged = averages(decay, use=False)
    model.weight.data += 1
    now = model.weight.detach().clone()
    with averaged.in_model():
        assert torch.equal(model.weight, now)
    assert averaged.used is False
    assert bool(averaged.kept) is (decay is not None)


def test_frozen_parameters_are_averaged_once_they_are_trained() -> None:
    model, _ = averages(None)
    model.bias.requires_grad_(False)
    averaged = AveragedWeights(model, torch.optim.SGD(model.parameters(), 0.1), TrainingConfig(ema=0.9))
    assert averaged.kept.keys() == {"weight"}
    model.bias.requires_grad_(True)
    averaged.update(0)
    assert averaged.kept.keys() == {"weight", "bias"}


def test_an_optimiser_that_averages_by_itself_is_switched_and_the_weights_return_exactly() -> None:
    model, _ = averages(None)
    averaged = AveragedWeights(model, Halving(model.parameters(), lr=0.1), TrainingConfig(optimizer=Half()))
    now = model.weight.detach().clone()
    with averaged.in_model():
        assert torch.equal(model.weight, now / 2)
    assert torch.equal(model.weight, now)
    assert torch.equal(averaged.measured()["weight"], now / 2)


def test_both_kinds_of_averages_are_refused() -> None:
    model, _ = averages(None)
    config = TrainingConfig(ema=0.9, optimizer=Half())
    with pytest.raises(X2KitError, match=r"training\.ema: Half averages the weights itself; set ema to null"):
        AveragedWeights(model, Halving(model.parameters(), lr=0.1), config)


class Watching(Scripted):
    """Keep the weights that are measured."""

    def __init__(self, *values: float) -> None:
        super().__init__(*values)
        self.seen: list[dict[str, Tensor]] = []

    def measure(self, model: X2VLM, progress: Callable[[str, int, int], None]) -> dict[str, float]:
        self.seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return super().measure(model, progress)


def test_averages_are_validated_selected_and_exported(written: Written, tmp_path: Path) -> None:
    validator = Watching(0.1, 0.9, 0.2)
    found = run(written(ema=0.9), tmp_path / "run", validator)
    state = read_state(checkpoints(tmp_path / "run")[-1])
    assert equal({name: validator.seen[1][name] for name in found}, found), f"the best {METRIC}"
    measured = {name: validator.seen[2][name] for name in state["average"]}
    assert equal(measured, state["average"])
    assert not equal(measured, {name: state["model"][name] for name in measured})


def test_a_run_of_averages_resumes_exactly_and_exports_either_weights(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(written(), tmp_path / "plain")
    whole = run(written(ema=0.9), tmp_path / "whole")
    assert not equal(plain, whole)
    with monkeypatch.context() as patch:
        after(patch, 3, lambda trainer: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(written(ema=0.9), tmp_path / "stopped")
    assert equal(run(written(ema=0.9), tmp_path / "stopped", resume=True), whole)
    assert equal(run(written(ema=0.9, use_ema=False), tmp_path / "stopped", resume=True), plain)


def test_a_run_may_begin_to_average_when_it_resumes(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        after(patch, 3, lambda trainer: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(written(), tmp_path / "run")
    run(written(ema=0.9), tmp_path / "run", resume=True)
    assert read_state(checkpoints(tmp_path / "run")[-1])["average"]
