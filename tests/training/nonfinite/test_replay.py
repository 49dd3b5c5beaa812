"""A saved step is replayed, and the first module with NaN or Inf is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.training.conftest import Written
from tests.training.nonfinite.test_guard import spoil
from tests.training.test_trainer import after, run
from x2kit import cli
from x2kit.errors import CheckpointError, X2KitError
from x2kit.training.nonfinite.replay import Place, replay, watch_modules
from x2kit.training.nonfinite.saved_step import saved_steps
from x2kit.training.trainer import Trainer


def set_bias(value: float) -> object:
    def act(trainer: Trainer) -> None:
        nn.init.constant_(trainer.model.vision_proj.bias, value)

    return act


class Root(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.sqrt()


class Pair(nn.Module):
    """Modules in a module, called by name and with a dictionary."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.root = root

    def forward(self, *, values: Tensor) -> dict[str, Tensor]:
        return {"out": self.root(self.inner(values))}


class Outer(nn.Module):
    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2)
        self.pair = Pair(root)

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.pair(values=self.first(values))["out"]
        return out


def zeroed(root: nn.Module) -> Outer:
    model = Outer(root)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def test_the_innermost_module_with_a_bad_input_gradient_is_named() -> None:
    model = zeroed(Root())
    with watch_modules(model) as watch:
        model(torch.ones(1, 2)).sum().backward()
    assert watch.forward is None
    why = "the gradient of its output is finite, that of an input is not"
    assert watch.backward() == Place("pair.root", "Root", why)


def test_a_bad_output_gradient_is_named_if_no_module_caused_it() -> None:
    model = zeroed(nn.Linear(2, 2))
    with watch_modules(model) as watch:
        (model(torch.ones(1, 2)) * float("inf")).sum().backward()
    why = "the gradient of its output is not finite"
    assert watch.backward() == Place("pair.root", "Linear", why)


def test_hooks_are_removed_and_finite_values_name_no_module() -> None:
    model = zeroed(nn.Identity())
    with watch_modules(model) as watch:
        model(torch.ones(1, 2)).sum().backward()
    assert (watch.forward, watch.backward()) == (None, None)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not any(parameter._backward_hooks for parameter in model.parameters())


@pytest.mark.parametrize("settings", [{}, {"accumulation": 2, "activation_checkpointing": True}])
def test_the_first_module_is_named(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    after(monkeypatch, 2, set_bias(float("nan")))
    resolved = written(**settings)
    with pytest.raises(X2KitError, match=r"step 3: not finite: loss, "):
        run(resolved, tmp_path / "run")
    found = replay(saved_steps(tmp_path / "run")[3], resolved.recipe)
    assert found.broken == found.before
    assert {"loss", "images.itc", "regions.itc", "gradient_norm"} <= set(found.broken)
    assert found.forward == Place(
        "vision_proj", "Linear", "its output is not finite; neither is its parameter bias"
    )
    assert found.backward is not None


def test_a_step_is_replayed_bit_for_bit(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, [3], "images.mlm")
    resolved = written()
    with pytest.raises(X2KitError):
        run(resolved, tmp_path / "run")
    monkeypatch.undo()
    losses: list[float] = []
    ordinary = Trainer.step

    def step(self: Trainer, batch: object) -> object:
        values = ordinary(self, batch)  # type: ignore[arg-type]
        losses.append(float(values["loss"]))
        return values

    monkeypatch.setattr(Trainer, "step", step)
    run(written(), tmp_path / "plain")
    found = replay(saved_steps(tmp_path / "run")[3], resolved.recipe)
    assert found.values["loss"] == losses[2]
    assert found.before == ["loss", "images.mlm", "gradient_norm"]
    assert (found.broken, found.forward, found.backward) == ([], None, None)


def test_the_subcommand_prints_values_and_modules(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    with monkeypatch.context() as patch:
        after(patch, 2, set_bias(float("nan")))
        with pytest.raises(X2KitError):
            run(written(), directory)
    capsys.readouterr()
    assert cli.main(["debug", str(directory), "--step", "3", "--device", "cpu"]) == 1
    out = capsys.readouterr().out
    assert f"{directory}/non-finite/step-0000003/records.json" in out
    assert "forward:  vision_proj (Linear): its output is not finite; neither is its parameter bias" in out
    assert "reproduced: NaN or Inf in loss, " in out
    assert cli.main(["debug", str(directory), "--step", "4"]) == 2
    assert "step 4 is not saved; saved steps: 3" in capsys.readouterr().err


def test_the_subcommand_reports_a_finite_replay(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        spoil(patch, [1])
        with pytest.raises(X2KitError):
            run(written(), tmp_path / "run")
    assert cli.main(["debug", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "forward:  all module outputs are finite" in out
    assert (
        "not reproduced: all values are finite; the run had NaN or Inf in loss, images.itc, gradient_norm"
        in out
    )


def test_missing_and_damaged_steps_are_reported(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["debug", str(tmp_path / "nowhere")]) == 2
    assert "no such directory" in capsys.readouterr().err
    assert cli.main(["debug", str(tmp_path)]) == 2
    assert "no saved step" in capsys.readouterr().err
    spoil(monkeypatch, [1])
    resolved = written()
    with pytest.raises(X2KitError):
        run(resolved, tmp_path / "run")
    folder = saved_steps(tmp_path / "run")[1]
    (folder / "state.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"step-0000001: damaged: state\.pt: its checksum differs"):
        replay(folder, resolved.recipe)
