"""Every optimiser that x2kit brings trains, and a run of it that was killed resumes exactly."""

from __future__ import annotations

import signal
from importlib.util import find_spec
from pathlib import Path

import pytest

from x2kit import cli
from x2kit.errors import RecipeError
from x2kit.io.run_directory import read_metrics
from x2kit.plugin.loading.manager import load_plugins

from .conftest import Written
from .test_resume import quickstart, stop, weights
from .test_trainer import after, run

RATES = {"Lion": 0.003, "Adafactor": 0.03}
"""Learning rates other than that of AdamW."""


def optimizers() -> list[object]:
    names = sorted(
        entry.component.component_name()
        for entry in load_plugins().registry
        if entry.component.kind == "optimizer" and entry.distribution.startswith("x2kit ")
    )
    absent = find_spec("schedulefree") is None
    skip = pytest.mark.skipif(absent, reason="extra schedulefree is not installed")
    return [pytest.param(name, marks=skip if name == "ScheduleFreeAdamW" else ()) for name in names]


@pytest.mark.parametrize("optimizer", optimizers())
def test_a_run_resumes_exactly(
    optimizer: str, written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"optimizer": optimizer, "schedule": "constant", "decay_ratio": 0.5, "weight_decay": 0.1}
    whole = run(written(**settings), tmp_path / "whole")
    with monkeypatch.context() as patch:
        after(patch, 3, lambda trainer: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(written(**settings), tmp_path / "stopped")
    assert run(written(**settings), tmp_path / "stopped", resume=True) == whole


def test_adafactor_is_refused_on_shards(written: Written) -> None:
    with pytest.raises(RecipeError, match="training: optimizer: Adafactor needs whole parameters"):
        written(optimizer="Adafactor", distribution="fsdp")


def test_a_missing_library_is_a_fault_of_the_recipe(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("x2kit_optimizers.config.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"training\.optimizer: needs schedulefree, which is not installed"):
        written(optimizer="ScheduleFreeAdamW")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", optimizers())
def test_a_hundred_steps_of_the_quickstart_lower_the_loss_and_survive_a_kill(
    optimizer: str, tmp_path: Path
) -> None:
    def command(directory: Path) -> list[str]:
        keys = {"steps": 100, "optimizer": optimizer, "lr": RATES.get(optimizer, 0.01), "warmup": 5}
        return [*quickstart(directory), *(f"--training.{key}={value}" for key, value in keys.items())]

    assert cli.main(command(tmp_path / "whole")) == 0
    losses = [line["translations.ttc"] for line in read_metrics(tmp_path / "whole")]
    assert len(losses) == 100
    assert sum(losses[-20:]) / 20 < 0.7 * sum(losses[:5]) / 5
    killed = tmp_path / "killed"
    status, _ = stop(command(killed), killed, signal.SIGKILL, group=False)
    assert status == -signal.SIGKILL
    assert cli.main(["train", "--resume", "--run-dir", str(killed)]) == 0
    assert weights(killed) == weights(tmp_path / "whole")
