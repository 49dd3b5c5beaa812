"""fp16: losses are scaled, updates whose gradient overflowed are left out, and the scale goes on where it was."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from tests.training.nonfinite.test_guard import spoil
from x2kit.data.config import LossName
from x2kit.errors import X2KitError
from x2kit.io.run_directory import read_metrics
from x2kit.training.checkpoint.checkpoints import checkpoints, read_state
from x2kit.training.nonfinite.replay import replay
from x2kit.training.nonfinite.saved_step import saved_steps
from x2kit.training.stepper import Stepper, assemble

from .conftest import Written
from .test_loop import Crash, after, crash, run
from .test_no_waiting import NobodyAsks

FP16 = {"precision": "fp16", "lr": 0.001}
LOSSES = get_args(LossName)


def begin_with(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """Begin with another scale than torch's."""
    plain = torch.amp.GradScaler.__init__

    def init(self: torch.amp.GradScaler, device: str, enabled: bool) -> None:
        plain(self, device, init_scale=scale, enabled=enabled)

    monkeypatch.setattr(torch.amp.GradScaler, "__init__", init)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_losses_and_gradients_are_those_of_float32_but_for_rounding(
    written: Written, monkeypatch: pytest.MonkeyPatch, precision: str, accumulation: int
) -> None:
    """Within 1 % and 3 %: bf16 keeps 8 bits of a number, fp16 keeps 11."""
    begin_with(monkeypatch, 2.0**8)
    found = {}
    for name in ("fp32", precision):
        recipe = written(precision=name, accumulation=accumulation).recipe
        parts, _ = assemble(recipe, lambda switched_on: None)
        stepper = Stepper(recipe, parts, 0)
        found[name] = stepper.differentiate(parts.batches.batch(0))
    losses = [name for name in found["fp32"] if name.rpartition(".")[2] in LOSSES]
    assert len(losses) >= 4
    for loss in losses:
        assert found[precision][loss].item() == pytest.approx(found["fp32"][loss].item(), rel=1e-2), loss
    norms = [found[name]["gradient_norm"].item() for name in (precision, "fp32")]
    assert norms[0] == pytest.approx(norms[1], rel=3e-2)
    assert norms[0] != norms[1]


def test_a_step_asks_for_no_value(written: Written) -> None:
    recipe = written(**FP16).recipe
    parts, _ = assemble(recipe, lambda switched_on: None)
    batch, stepper = parts.batches.batch(0), Stepper(recipe, parts, 0)
    with NobodyAsks():
        stepper.step(batch)


def test_a_gradient_that_overflows_halves_the_scale_and_the_run_goes_on(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_with(monkeypatch, 2.0**127)
    run(written(**FP16), tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    assert [line["loss_scale"] for line in lines[:2]] == [2.0**127, 2.0**126]
    assert lines[-1]["skipped"] >= 2
    assert all("loss" in line for line in lines)
    assert not saved_steps(tmp_path / "run")


def test_a_run_that_crashed_goes_on_with_its_scale_to_the_same_weights(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_with(monkeypatch, 2.0**127)
    plain = run(written(**FP16), tmp_path / "plain")
    with monkeypatch.context() as patch:
        after(patch, 3, crash)
        with pytest.raises(Crash):
            run(written(**FP16), tmp_path / "run")
    assert read_state(checkpoints(tmp_path / "run")[-1])["scaler"]["scale"] == 2.0**125
    assert run(written(**FP16), tmp_path / "run", resume=True) == plain


def test_a_loss_that_is_not_finite_is_a_fault_in_fp16_too(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_with(monkeypatch, 2.0**8)
    resolved = written(**FP16)
    with monkeypatch.context() as patch:
        spoil(patch, [2])
        with pytest.raises(X2KitError, match=r"step 2: not finite: loss, images\.itc, gradient_norm"):
            run(resolved, tmp_path / "run")
    monkeypatch.undo()
    found = replay(saved_steps(tmp_path / "run")[2], resolved.recipe)
    assert found.values["loss_scale"] == 2.0**8
    assert found.broken == []


def test_too_many_overflows_in_a_row_end_the_run(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_with(monkeypatch, 2.0**127)
    resolved = written(**FP16, max_skipped=2)
    with pytest.raises(X2KitError, match=r"step 2: not finite: gradient_norm\n  the last of 2 in a row"):
        run(resolved, tmp_path / "run")
    assert replay(saved_steps(tmp_path / "run")[2], resolved.recipe).broken == ["gradient_norm"]
