"""Updates with NaN or Inf are skipped; the run stops or continues as the recipe says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from tests.training.conftest import Written
from tests.training.test_trainer import run
from x2kit.errors import X2KitError
from x2kit.io.run_directory import read_metrics
from x2kit.training.checkpoint.checkpoints import checkpoints, read_state
from x2kit.training.config import TrainingConfig
from x2kit.training.nonfinite.guard import Guard
from x2kit.training.nonfinite.saved_step import load_step, saved_steps
from x2kit.training.optim.official_adamw import OfficialAdamW
from x2kit.training.stepper import Stepper
from x2kit.training.trainer import Trainer

CPU = torch.device("cpu")
SKIP = TrainingConfig(non_finite="skip", max_skipped=2)


def spoil(monkeypatch: pytest.MonkeyPatch, steps: Iterable[int], name: str = "images.itc") -> None:
    """Make a loss NaN at some steps, counted from 1."""
    ordinary, bad = Stepper.total, set(steps)

    def total(self: Stepper, losses: Any) -> Tensor:
        if self.done + 1 in bad:
            stream, loss = name.split(".")
            losses[stream][loss] = losses[stream][loss] * float("nan")
        return ordinary(self, losses)

    monkeypatch.setattr(Stepper, "total", total)


def optimizers(parameters: Any) -> dict[str, torch.optim.Optimizer]:
    return {
        "torch": torch.optim.AdamW(parameters, lr=0.1, fused=True),
        "official": OfficialAdamW(parameters, lr=0.1),
    }


@pytest.mark.parametrize("rule", ["torch", "official"])
@pytest.mark.parametrize("step", [0, 2])
def test_a_skipped_update_changes_no_state(rule: str, step: int) -> None:
    def trained(bad: int | None) -> tuple[list[Tensor], dict[str, Any]]:
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = optimizers(list(model.parameters()))[rule]
        guard = Guard(model, SKIP, CPU)
        for number in range(4):
            gradient = torch.full((2, 3), number + 1.0)
            for value in (float("nan"), 1.0) if number == bad else (1.0,):
                model.weight.grad, model.bias.grad = gradient * value, torch.ones(2)
                guard.begin()
                guard.update(optimizer, number, {"gradient_norm": torch.tensor(value)})
        return list(model.parameters()), optimizer.state_dict()["state"]

    plain, spoiled = trained(None), trained(step)
    torch.testing.assert_close(spoiled, plain, rtol=0, atol=0)


def test_an_update_without_nan_is_unchanged_to_the_last_bit() -> None:
    torch.manual_seed(0)
    one, two = nn.Linear(64, 64), nn.Linear(64, 64)
    two.load_state_dict(one.state_dict())
    guard = Guard(two, SKIP, CPU)
    first, second = (torch.optim.AdamW(model.parameters(), fused=True) for model in (one, two))
    for step in range(3):
        for model in (one, two):
            model.weight.grad = torch.full((64, 64), 0.1 + step)
        first.step()
        guard.update(second, step, {"loss": torch.tensor(1.0)})
    assert torch.equal(one.weight, two.weight)


def test_running_statistics_are_restored() -> None:
    model = nn.BatchNorm1d(2)
    guard = Guard(model, SKIP, CPU)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    guard.begin()
    loss = model(torch.tensor([[1.0, float("inf")], [2.0, 3.0]])).sum()
    loss.backward()
    assert not model.running_mean.isfinite().all()  # type: ignore[union-attr]
    guard.update(optimizer, 0, {"loss": loss})
    assert model.running_mean.tolist() == [0, 0]  # type: ignore[union-attr]
    assert model.num_batches_tracked == 0


def test_no_update_is_made_after_the_step_that_stops_the_run() -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    guard = Guard(model, TrainingConfig(), CPU)
    before = model.weight.clone()
    for step, loss in enumerate([float("inf"), 1.0, 2.0]):
        model.weight.grad = torch.ones(1, 1)
        guard.update(optimizer, step, {"loss": torch.tensor(loss)})
    assert torch.equal(model.weight, before)
    found = guard.read()
    assert (found.ends, found.in_a_row, [one.step for one in found.skipped]) == (True, False, [0])


@pytest.mark.parametrize(("losses", "ends"), [("1nn1nn", True), ("n1n1n1", False)])
def test_too_many_skipped_in_a_row_stop_the_run(losses: str, ends: bool) -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    guard = Guard(model, SKIP, CPU)
    for step, loss in enumerate(losses):
        model.weight.grad = torch.ones(1, 1)
        guard.update(optimizer, step, {"loss": torch.tensor(float(loss.replace("n", "nan")))})
    found = guard.read()
    assert (found.ends, found.in_a_row) == (ends, ends)
    assert [one.step for one in found.skipped] == ([1, 2] if ends else [0, 2, 4])


@pytest.mark.parametrize("log_every", [1, 4])
def test_the_run_stops_with_losses_records_and_remedies(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_every: int
) -> None:
    spoil(monkeypatch, [3])
    directory = tmp_path / "run"
    with pytest.raises(X2KitError) as error:
        run(written(log_every=log_every, checkpoint_every=2), directory)
    lines = str(error.value).splitlines()
    assert lines[0] == "step 3: not finite: loss, images.itc, gradient_norm"
    assert any(line.startswith("  records of stream images: scene-") for line in lines)
    assert (
        f"  saved in {directory}/non-finite/step-0000003; to find the module: x2kit debug {directory}"
        in lines
    )
    assert "  the update was skipped; the checkpoint of step 2 is kept" in lines
    assert lines[-1].endswith(f"x2kit train --resume --run-dir {directory} --training.non_finite skip")
    assert [path.name for path in checkpoints(directory)] == ["step-0000002"]


@pytest.mark.parametrize("log_every", [1, 4])
def test_the_saved_step_has_the_batch_and_parameters_before_its_update(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_every: int
) -> None:
    spoil(monkeypatch, [3])
    seen: list[Any] = []
    ordinary = Trainer.step

    def step(self: Trainer, batch: Any) -> Any:
        seen.append(batch)
        return ordinary(self, batch)

    monkeypatch.setattr(Trainer, "step", step)
    resolved = written(log_every=log_every, checkpoint_every=4)
    with pytest.raises(X2KitError):
        run(resolved, tmp_path / "run")
    (folder,) = saved_steps(tmp_path / "run").values()
    saved = load_step(folder)
    assert saved.step == 2
    wanted = seen[2]._replace(broken=[])
    assert str(saved.batch) == str(wanted)
    assert saved.batch.images is not None
    assert torch.equal(saved.batch.images, wanted.images)
    records = json.loads((folder / "records.json").read_text())
    assert (records["step"], records["records"]) == (3, wanted.records)
    stored = yaml.safe_load(saved.recipe)
    assert stored.pop("plugins") == ["plugins/tiny.py", "plugins/scenes.py"]
    expected = yaml.safe_load(resolved.recipe.to_yaml())
    assert stored == {key: value for key, value in expected.items() if key != "plugins"}
    monkeypatch.undo()
    run(written(steps=6, checkpoint_every=2, keep_last=9), tmp_path / "plain")
    before = read_state(tmp_path / "plain/checkpoints/step-0000002")["model"]
    assert all(
        torch.equal(saved.model[name], value) for name, value in before.items() if "temperature" not in name
    )


def test_updates_are_skipped_and_counted(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(monkeypatch, [2, 5])
    run(written(non_finite="skip", log_every=2, checkpoint_every=2), tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    assert [line["skipped"] for line in lines] == [1, 1, 2]
    assert ["loss" in line for line in lines] == [False, True, True]
    said = capsys.readouterr().out
    assert "step 2: update skipped; not finite: loss, images.itc, gradient_norm" in said
    assert "step 5: update skipped" in said
    state = read_state(checkpoints(tmp_path / "run")[-1])
    assert state["non_finite"] == {"skipped": 2, "in_a_row": 0}
    floats = [value for value in state["model"].values() if value.is_floating_point()]
    floats += [v for one in state["optimizer"]["state"].values() for v in one.values()]
    assert all(value.isfinite().all() for value in floats)


def test_a_resumed_run_continues_the_count(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipe(most: int) -> Any:
        return written(non_finite="skip", max_skipped=most, checkpoint_every=2, log_every=2)

    spoil(monkeypatch, [2, 3, 4])
    plain = run(recipe(4), tmp_path / "plain")
    with pytest.raises(X2KitError, match=r"step 4: (.|\n)*the last of 3 in a row \(training\.max_skipped\)"):
        run(recipe(3), tmp_path / "run")
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-0000002"]
    with pytest.raises(X2KitError, match="step 4: "):
        run(recipe(3), tmp_path / "run", resume=True)
    assert run(recipe(4), tmp_path / "run", resume=True) == plain
    assert read_metrics(tmp_path / "run")[-1]["skipped"] == 3


def test_a_storage_error_does_not_hide_the_loss(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, [3])
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "non-finite").write_text("a file is in the way")
    with pytest.raises(X2KitError, match=r"step 3: not finite: (.|\n)*not written"):
        run(written(), directory)
