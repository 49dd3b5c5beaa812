"""Plugin hooks of a run: when they are called, with which facts, and that they change no value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.forked import run_ranks
from tests.training.conftest import recipe_tree
from x2kit.errors import PluginError
from x2kit.evaluation import evaluate
from x2kit.io.run_directory import read_metrics
from x2kit.recipe import read_recipe
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.training import train

PLUGIN = """\
import json, random, torch
from pathlib import Path
from x2kit.plugin import hookimpl

def note(folder, name, *facts):
    torch.manual_seed(0)
    random.seed(0)
    if name in (Path({folder!r}) / "fails.txt").read_text().split():
        raise ConnectionError("down")
    with (Path({folder!r}) / "notes.jsonl").open("a") as file:
        file.write(json.dumps([name, *facts]) + "\\n")

@hookimpl
def x2kit_run_started(run):
    note(run.directory, "started", run.step, run.steps, run.resumed, run.recipe["training"]["seed"])

@hookimpl
def x2kit_step_done(step, values):
    note(None, "step", step, values and sorted(values)[:1] and values["loss"])
    if values:
        values.clear()

@hookimpl
def x2kit_checkpoint_saved(step, checkpoint):
    note(None, "checkpoint", step, checkpoint.name, (checkpoint / "state.pt").is_file())

@hookimpl
def x2kit_run_ended(status):
    note(None, "ended", status)

@hookimpl
def x2kit_evaluation_done(directory, recipe, result):
    note(None, "measured", str(directory), recipe["evaluation"]["split"], result["split"])
    result.clear()
"""


def recipe(folder: Path, fails: tuple[str, ...] = (), **training: Any) -> ResolvedRecipe:
    tree = recipe_tree(folder)
    (folder / "noting.py").write_text(PLUGIN.format(folder=str(folder)))
    (folder / "fails.txt").write_text(" ".join(fails))  # a module that was imported is not imported again
    tree["plugins"].append("noting.py")
    tree["training"] |= {"log_every": 2, "steps": 4, **training}
    file = folder / "noting.yaml"
    file.write_text(yaml.safe_dump(tree))
    return read_recipe([file])


def notes(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "notes.jsonl").read_text().splitlines()]


def losses(run: Path) -> Mapping[int, float]:
    return {line["step"]: line["loss"] for line in read_metrics(run)}


def test_hooks_are_called_in_order(tmp_path: Path) -> None:
    resolved, run = recipe(tmp_path), tmp_path / "run"
    train(resolved.recipe, resolved.plugins, run)
    logged = losses(run)
    assert notes(tmp_path) == [
        ["started", 0, 4, False, 42],
        ["step", 1, None],
        ["step", 2, logged[2]],
        ["checkpoint", 2, "step-0000002", True],
        ["step", 3, None],
        ["step", 4, logged[4]],
        ["checkpoint", 4, "step-0000004", True],
        ["ended", "finished"],
    ]


def test_async_checkpoints_are_reported_once_complete(tmp_path: Path) -> None:
    resolved = recipe(tmp_path, async_saving=True)
    train(resolved.recipe, resolved.plugins, tmp_path / "run")
    told = [note for note in notes(tmp_path) if note[0] == "checkpoint"]
    assert told == [["checkpoint", step, f"step-000000{step}", True] for step in (2, 4)]


def test_a_resumed_run_reports_its_step(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = recipe(tmp_path, steps=2)
    train(first.recipe, first.plugins, run)
    second = recipe(tmp_path, steps=4)
    train(second.recipe, second.plugins, run, resume=True)
    assert [note for note in notes(tmp_path) if note[0] == "started"][1] == ["started", 2, 4, True, 42]


def test_weights_are_the_same_with_drawing_and_failing_callbacks(tmp_path: Path) -> None:
    found = []
    for name, fails in (("draw", ()), ("fail", ("step", "checkpoint", "ended"))):
        resolved = recipe(tmp_path, fails)
        found.append(train(resolved.recipe, resolved.plugins, tmp_path / name) / "model.safetensors")
    tree = recipe_tree(tmp_path)
    tree["training"] |= {"log_every": 2, "steps": 4}
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(tree))
    plain = read_recipe([tmp_path / "plain.yaml"])
    found.append(train(plain.recipe, plain.plugins, tmp_path / "plain") / "model.safetensors")
    first, second, third = (file.read_bytes() for file in found)
    assert first == second == third


def test_a_failing_hook_is_reported_once_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resolved = recipe(tmp_path, ("step",))
    train(resolved.recipe, resolved.plugins, tmp_path / "run")
    said = capsys.readouterr().out
    assert said.count("x2kit_step_done of plugin noting failed: ConnectionError: down") == 1
    assert "x2kit_step_done of plugin noting failed 4 times" in said


def test_a_hook_that_fails_at_the_start_ends_a_new_run(tmp_path: Path) -> None:
    resolved = recipe(tmp_path, ("started",))
    with pytest.raises(PluginError, match="x2kit_run_started of plugin noting failed: ConnectionError: down"):
        train(resolved.recipe, resolved.plugins, tmp_path / "run")
    assert notes(tmp_path) == [["ended", "failed"]]


def test_an_evaluation_is_reported_and_a_failing_hook_keeps_its_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resolved, run = recipe(tmp_path, steps=1), tmp_path / "run"
    train(resolved.recipe, resolved.plugins, run)
    result = evaluate(run, resolved.recipe, resolved.plugins, device="cpu")
    assert notes(tmp_path)[-1] == ["measured", str(run), "test", "test"]
    assert result["split"] == "test"
    failing = recipe(tmp_path, ("measured",), steps=1)
    evaluate(run, failing.recipe, failing.plugins, device="cpu")
    assert "x2kit_evaluation_done of plugin noting failed: ConnectionError: down" in caplog.text


@pytest.mark.slow
def test_only_rank_zero_calls_hooks(tmp_path: Path) -> None:
    recipe(tmp_path)
    done = run_ranks(2, "train", tmp_path / "noting.yaml", "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert [note[0] for note in notes(tmp_path)].count("started") == 1
    assert [note[:2] for note in notes(tmp_path) if note[0] == "step"] == [["step", n] for n in (1, 2, 3, 4)]
