"""Validation during training: equal weights, the best checkpoint, early stops, resuming."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.forked import Program, run_ranks
from x2kit import cli
from x2kit.errors import X2KitError
from x2kit.evaluation import Validator, evaluate
from x2kit.io.run_directory import read_metrics
from x2kit.model import X2VLM
from x2kit.recipe import read_recipe
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.training import train
from x2kit.training.checkpoint.checkpoints import BestIs, checkpoints, read_state
from x2kit.training.trainer import Trainer
from x2kit.training.validation import Selection, evaluation_mode

from .conftest import Written, recipe_tree
from .test_resume import stop
from .test_trainer import after

METRIC = "retrieval.mean_recall"


class Scripted:
    """A validator with given values."""

    split, select, every = "validation", METRIC, 2

    def __init__(self, *values: float, patience: int | None = None, best_is: BestIs = "highest") -> None:
        self.values, self.patience, self.best_is = list(values), patience, best_is

    def check(self, model: X2VLM) -> None:
        return

    def measure(self, model: X2VLM, progress: Callable[[str, int, int], None]) -> dict[str, float]:
        assert not model.training
        torch.rand(3), random.random(), np.random.rand()
        return {METRIC: self.values.pop(0), "retrieval.languages.en.r1": 0.5}


def run(
    resolved: ResolvedRecipe, directory: Path, validator: Any = None, resume: bool = False
) -> dict[str, torch.Tensor]:
    weights = train(resolved.recipe, resolved.plugins, directory, resume, validator=validator)
    return load_file(weights / "model.safetensors")


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def selected(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "weights/selection.json").read_text())
    return found


def kept(directory: Path) -> list[str]:
    return [path.name.removeprefix("step-").lstrip("0") for path in checkpoints(directory)]


def test_the_best_value_is_the_first_of_equal_ones() -> None:
    values = {2: 0.5, 4: 0.7, 6: 0.7}
    assert Selection("val", METRIC, "highest", None, values).best() == 4
    assert Selection("val", METRIC, "lowest", None, values).best() == 2
    assert Selection("val", METRIC).best() is None


@pytest.mark.parametrize(("patience", "stops"), [(None, False), (1, True), (2, True), (3, False)])
def test_patience_counts_validations_after_the_best(patience: int | None, stops: bool) -> None:
    values = {2: 0.5, 4: 0.7, 6: 0.7, 8: 0.6}
    assert Selection("val", METRIC, "highest", patience, values).stops() is stops


def test_evaluation_mode_restores_modes_and_random_states(model: X2VLM) -> None:
    model.text.eval()  # a frozen encoder
    before = {name: module.training for name, module in model.named_modules()}
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
        drawn = torch.rand(2), random.random(), np.random.rand()
    assert {name: module.training for name, module in model.named_modules()} == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == (states[1], states[2][1].tolist())
    with evaluation_mode(model):
        assert torch.equal(torch.rand(2), drawn[0])  # equal weights give equal numbers


def with_keys(tmp_path: Path, **keys: Any) -> ResolvedRecipe:
    overrides = [(f"evaluation.{name}", value) for name, value in keys.items()]
    return read_recipe([tmp_path / "tiny.yaml"], overrides)


def test_validation_leaves_the_weights_of_training_unchanged(written: Written, tmp_path: Path) -> None:
    plain = run(written(), tmp_path / "plain")
    resolved = with_keys(tmp_path, every=2)
    assert equal(run(resolved, tmp_path / "validated", Validator(resolved.recipe)), plain)
    lines = read_metrics(tmp_path / "validated")
    assert [line["step"] for line in lines if "validation.retrieval.mean_recall" in line] == [2, 4, 6]
    assert not any(name.startswith("validation.retrieval.languages") for name in lines[1])
    assert lines[1]["validation_seconds"] > 0
    assert not (tmp_path / "validated/weights/selection.json").exists()


def test_validation_needs_a_validator(written: Written, tmp_path: Path) -> None:
    written()
    with pytest.raises(X2KitError, match=r"train needs a validator, x2kit\.evaluation\.Validator"):
        run(with_keys(tmp_path, every=2), tmp_path / "run")


def test_the_last_validation_equals_an_evaluation_of_the_weights(written: Written, tmp_path: Path) -> None:
    written()
    resolved = with_keys(tmp_path, every=4)
    run(resolved, tmp_path / "run", Validator(resolved.recipe))
    result = evaluate(tmp_path / "run", resolved.recipe, resolved.plugins, "validation")
    (fourth, last) = [line for line in read_metrics(tmp_path / "run") if "validation_seconds" in line]
    assert (fourth["step"], last["step"]) == (4, 6)
    assert last["validation.retrieval.mean_recall"] == result["mean_recall"]
    assert last["validation.retrieval.mean_all"] == result["mean_all"]


def test_the_best_checkpoint_is_kept_and_exported(written: Written, tmp_path: Path) -> None:
    resolved = written(steps=8, checkpoint_every=100, keep_last=1)
    weights = run(resolved, tmp_path / "run", Scripted(0.1, 0.6, 0.6, 0.2))
    assert kept(tmp_path / "run") == ["4", "8"]
    model = read_state(tmp_path / "run/checkpoints/step-0000004")["model"]
    assert equal(weights, {name: model[name] for name in weights})
    assert not equal(weights, run(resolved, tmp_path / "plain"))
    assert selected(tmp_path / "run") == {
        "metric": METRIC,
        "split": "validation",
        "best_is": "highest",
        "value": 0.6,
        "step": 4,
        "validations": 4,
    }


def test_the_lowest_value_can_be_best(written: Written, tmp_path: Path) -> None:
    run(written(), tmp_path / "run", Scripted(0.3, 0.1, 0.2, best_is="lowest"))
    assert selected(tmp_path / "run")["step"] == 4


def test_the_result_says_what_selected_the_weights(written: Written, tmp_path: Path) -> None:
    resolved = written()
    run(resolved, tmp_path / "run", Scripted(0.3, 0.9, 0.2))
    result = evaluate(tmp_path / "run", resolved.recipe, resolved.plugins)
    assert result["selection"] == selected(tmp_path / "run")
    assert result["checkpoint"]["steps"] == 4
    assert not any("selected on the split" in warning for warning in result["warnings"])
    again = evaluate(tmp_path / "run", resolved.recipe, resolved.plugins, "validation")
    assert any("selected on the split that is measured here" in warning for warning in again["warnings"])


def test_training_stops_early_and_a_resumed_run_stays_stopped(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resolved = written(steps=20, checkpoint_every=3)
    values = (0.1, 0.6, 0.5, 0.4)
    weights = run(resolved, tmp_path / "run", Scripted(*values, patience=2))
    assert "stopped early after step 8: 2 validations without a better validation.retrieval" in (
        capsys.readouterr().out
    )
    assert read_metrics(tmp_path / "run")[-1]["step"] == 8
    again = run(resolved, tmp_path / "run", Scripted(patience=2), resume=True)
    assert equal(again, weights)
    assert selected(tmp_path / "run")["step"] == 4
    # Without patience the same run goes on.
    run(resolved, tmp_path / "run", Scripted(0.3, 0.7, 0.2, 0.2, 0.2, 0.2), resume=True)
    assert selected(tmp_path / "run") == selected(tmp_path / "run") | {"step": 12, "validations": 10}


def test_a_metric_that_no_task_returns_stops_the_run_after_saving_it(
    written: Written, tmp_path: Path
) -> None:
    resolved = written()
    wrong = Scripted(0.5)
    wrong.select = "retrieval.recal"
    with pytest.raises(X2KitError) as caught:
        run(resolved, tmp_path / "run", wrong)
    assert "no number 'retrieval.recal' in the results of the tasks; found: retrieval.languages.en.r1, " in (
        str(caught.value)
    )
    assert kept(tmp_path / "run") == ["2"]
    run(resolved, tmp_path / "run", Scripted(0.5, 0.6), resume=True)
    assert selected(tmp_path / "run")["step"] == 6


class Killed(Exception):
    """Stands for a process that ends between two checkpoints."""


def test_a_resumed_run_selects_as_one_that_was_never_stopped(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = written(steps=10, checkpoint_every=5, keep_last=1)
    values = {2: 0.1, 4: 0.9, 6: 0.2, 8: 0.3, 10: 0.4}
    whole = run(resolved, tmp_path / "whole", Scripted(*values.values()))

    def die(trainer: Trainer) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        after(patched, 8, die)
        with pytest.raises(Killed):
            run(resolved, tmp_path / "killed", Scripted(0.1, 0.9, 0.2))
    resumed = run(resolved, tmp_path / "killed", Scripted(0.3, 0.4), resume=True)
    assert equal(resumed, whole)
    assert selected(tmp_path / "killed") == selected(tmp_path / "whole")
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole") == ["4", "10"]


@pytest.fixture
def validated(tmp_path: Path) -> Path:
    """A recipe that validates every third step and stops early."""
    tree = recipe_tree(tmp_path)
    tree["training"] |= {"steps": 60, "checkpoint_every": 4, "keep_last": 1}
    tree["evaluation"] |= {"every": 3, "select": "retrieval.mean_recall", "patience": 3}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path / "tiny.yaml"


@pytest.mark.slow
def test_a_killed_process_selects_and_stops_as_one_that_was_never_stopped(
    validated: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert cli.main(["train", str(validated), "--run-dir", str(whole)]) == 0
    status, _ = stop(["train", str(validated), "--run-dir", str(killed)], killed, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert Program("train", "--resume", "--run-dir", killed).wait().returncode == 0
    for file in ("model.safetensors", "selection.json"):
        assert (killed / "weights" / file).read_bytes() == (whole / "weights" / file).read_bytes()
    assert kept(killed) == kept(whole)
    assert read_metrics(killed)[-1]["step"] == read_metrics(whole)[-1]["step"] < 60  # it stopped early


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        [],
        ["--training.distribution=fsdp"],
        ["--training.distribution=fsdp", "--training.sharded_checkpoints=true"],
    ],
    ids=["ddp", "fsdp", "sharded checkpoints"],
)
def test_several_ranks_export_the_weights_that_they_measured(
    validated: Path, tmp_path: Path, keys: list[str]
) -> None:
    directory = tmp_path / "run"
    done = run_ranks(2, "train", validated, "--run-dir", directory, "--training.steps=12", *keys)
    assert done.returncode == 0, done.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as under torchrun
    resolved = read_recipe([validated])
    result = evaluate(directory, resolved.recipe, resolved.plugins, "validation")
    torch.set_num_threads(threads)
    assert result["mean_recall"] == selected(directory)["value"]
    lines = [line for line in read_metrics(directory) if "validation.retrieval.mean_recall" in line]
    assert [line["step"] for line in lines] == [3, 6, 9, 12]
    assert max(line["validation.retrieval.mean_recall"] for line in lines) == selected(directory)["value"]
