"""Optimiser steps: no device synchronisation, and half precision against float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.benchmarks.step_batch import ACTIVE, make_task
from tests.training.nonfinite.test_guard import spoil
from tests.training.parallel.test_activation_checkpointing import SIZES
from x2kit.errors import X2KitError
from x2kit.io.run_directory import read_metrics
from x2kit.plugin.tasks import STEP_LOSSES
from x2kit.training.checkpoint.checkpoints import checkpoints, read_state
from x2kit.training.nonfinite.replay import replay
from x2kit.training.nonfinite.saved_step import saved_steps
from x2kit.training.step.losses import step_losses
from x2kit.training.stepper import Stepper, assemble

from .conftest import Written
from .test_trainer import Crash, after, crash, run

aten = torch.ops.aten
SYNCHRONISING = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
}


class NoSynchronisation(TorchDispatchMode):
    """Refuse operations that return a value, or a shape that depends on one, to Python."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.overloadpacket not in SYNCHRONISING, f"{func} synchronises"
        return func(*args, **(kwargs or {}))


def test_forward_and_backward_do_not_synchronise() -> None:
    sizes = {f"model.{part}.init_args.{key}": v for part, of in SIZES.items() for key, v in of.items()}
    task = make_task(2, sizes)
    with NoSynchronisation():
        found = step_losses(task.model, task.batch, ACTIVE)  # negatives are drawn
        torch.stack([value for on in found.values() for value in on.values()]).sum().backward()


@pytest.mark.parametrize("non_finite", ["stop", "skip"])
def test_optimiser_step_does_not_synchronise(written: Written, non_finite: str) -> None:
    recipe = written(non_finite=non_finite).recipe
    parts, _ = assemble(recipe, lambda message: None)
    batch, stepper = parts.batches.batch(0), Stepper(recipe, parts, 0)
    with NoSynchronisation():
        stepper.step(batch)
    assert stepper.guard.read().skipped == []


def test_synchronisation_is_detected() -> None:
    with NoSynchronisation(), pytest.raises(AssertionError, match="_local_scalar_dense"):
        torch.ones(1).item()


FP16 = {"precision": "fp16", "lr": 0.001}
LOSSES = {loss for losses in STEP_LOSSES.values() for loss in losses}


def set_initial_scale(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    """Replace the initial scale of torch's GradScaler."""
    plain = torch.amp.GradScaler.__init__

    def init(self: torch.amp.GradScaler, device: str, enabled: bool) -> None:
        plain(self, device, init_scale=scale, enabled=enabled)

    monkeypatch.setattr(torch.amp.GradScaler, "__init__", init)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_differs_from_float32_by_rounding(
    written: Written, monkeypatch: pytest.MonkeyPatch, precision: str, accumulation: int
) -> None:
    """Within 1 % and 3 %: bf16 has 8 bits of precision, fp16 has 11."""
    set_initial_scale(monkeypatch, 2.0**8)
    found = {}
    for name in ("fp32", precision):
        recipe = written(precision=name, accumulation=accumulation).recipe
        parts, _ = assemble(recipe, lambda message: None)
        stepper = Stepper(recipe, parts, 0)
        found[name] = stepper.differentiate(parts.batches.batch(0))
    losses = [name for name in found["fp32"] if name.rpartition(".")[2] in LOSSES]
    assert len(losses) >= 4
    for loss in losses:
        assert found[precision][loss].item() == pytest.approx(found["fp32"][loss].item(), rel=1e-2), loss
    norms = [found[name]["gradient_norm"].item() for name in (precision, "fp32")]
    assert norms[0] == pytest.approx(norms[1], rel=3e-2)
    assert norms[0] != norms[1]


def test_fp16_step_does_not_synchronise(written: Written) -> None:
    recipe = written(**FP16).recipe
    parts, _ = assemble(recipe, lambda message: None)
    batch, stepper = parts.batches.batch(0), Stepper(recipe, parts, 0)
    with NoSynchronisation():
        stepper.step(batch)


def test_overflow_of_a_gradient_halves_the_scale(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_initial_scale(monkeypatch, 2.0**127)
    run(written(**FP16), tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    assert [line["loss_scale"] for line in lines[:2]] == [2.0**127, 2.0**126]
    assert lines[-1]["skipped"] >= 2
    assert all("loss" in line for line in lines)
    assert not saved_steps(tmp_path / "run")


def test_crashed_fp16_run_resumes_with_its_scale_to_the_same_weights(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_initial_scale(monkeypatch, 2.0**127)
    plain = run(written(**FP16), tmp_path / "plain")
    with monkeypatch.context() as patch:
        after(patch, 3, crash)
        with pytest.raises(Crash):
            run(written(**FP16), tmp_path / "run")
    assert read_state(checkpoints(tmp_path / "run")[-1])["scaler"]["scale"] == 2.0**125
    assert run(written(**FP16), tmp_path / "run", resume=True) == plain


def test_non_finite_loss_stops_an_fp16_run(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_initial_scale(monkeypatch, 2.0**8)
    resolved = written(**FP16)
    with monkeypatch.context() as patch:
        spoil(patch, [2])
        with pytest.raises(X2KitError, match=r"step 2: not finite: loss, images\.itc, gradient_norm"):
            run(resolved, tmp_path / "run")
    monkeypatch.undo()
    found = replay(saved_steps(tmp_path / "run")[2], resolved.recipe)
    assert found.values["loss_scale"] == 2.0**8
    assert found.broken == []


def test_consecutive_overflows_stop_the_run(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_initial_scale(monkeypatch, 2.0**127)
    resolved = written(**FP16, max_skipped=2)
    with pytest.raises(X2KitError, match=r"step 2: not finite: gradient_norm\n  the last of 2 in a row"):
        run(resolved, tmp_path / "run")
    assert replay(saved_steps(tmp_path / "run")[2], resolved.recipe).broken == ["gradient_norm"]
