"""Reporters of a run: calls, failures, resume."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.forked import run_ranks
from tests.training.conftest import recipe_tree
from x2kit.errors import PluginError, RecipeError
from x2kit.io.run_directory import read_metrics
from x2kit.plugin import ReporterConfig, RunFacts, RunStatus
from x2kit.recipe import read_recipe
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.training import train
from x2kit.training.config import TrainingConfig
from x2kit.training.logging.callbacks import Callbacks

PLUGIN = """\
import json, random, torch
from x2kit.plugin import ReporterConfig, SettingError, hookimpl

class Diary(ReporterConfig):
    fails_at: int | None = None
    missing: bool = False

    def check(self):
        if self.missing:
            raise SettingError("missing", 'needs the library diary; pip install "diary"')

    def build(self):
        return Writer(self.fails_at)

class Writer:
    def __init__(self, fails_at):
        self.fails_at = fails_at

    def _write(self, step, *entry):
        if self.fails_at is not None and step >= self.fails_at:
            raise ConnectionError("the net\\n is down")
        with self.file.open("a") as file:
            file.write(json.dumps(entry) + "\\n")

    def start(self, run, folder):
        self.file = folder / "diary.jsonl"
        self._write(run.step, "start", str(run.directory), run.step, run.steps, run.recipe["training"]["seed"])

    def log(self, step, values):
        torch.manual_seed(step)
        random.seed(step)
        self._write(step, "log", step, values)

    def end(self, status):
        self._write(0, "end", status)

@hookimpl
def x2kit_register(registry):
    registry.add(Diary)
"""


def recipe(folder: Path, diaries: Mapping[str, Any] | None = None, **training: Any) -> ResolvedRecipe:
    tree = recipe_tree(folder)
    (folder / "diary.py").write_text(PLUGIN)
    tree["plugins"].append("diary.py")
    if diaries is not None:
        tree["training"]["reporters"] = dict(diaries)
    tree["training"] |= {"log_every": 2, **training}
    file = folder / "diary.yaml"
    file.write_text(yaml.safe_dump(tree))
    return read_recipe([file])


def diary(run: Path, name: str = "mine") -> list[Any]:
    lines = (run / "reporters" / name / "diary.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def failing(step: int) -> dict[str, Any]:
    return {"class_path": "Diary", "init_args": {"fails_at": step}}


def test_a_reporter_gets_the_values_of_metrics_jsonl(tmp_path: Path) -> None:
    resolved, run = recipe(tmp_path, {"mine": "Diary", "other": "Diary"}), tmp_path / "run"
    train(resolved.recipe, resolved.plugins, run)
    start, *logs, end = diary(run)
    assert (start, end) == (["start", str(run), 0, 6, 42], ["end", "finished"])
    lines = [{k: v for k, v in line.items() if k not in ("step", "time")} for line in read_metrics(run)]
    assert [(step, values) for _, step, values in logs] == list(zip((2, 4, 6), lines, strict=True))
    assert diary(run, "other") == diary(run)


def test_weights_are_the_same_with_and_without_reporters(tmp_path: Path) -> None:
    weights = []
    for name, diaries in (("with", {"mine": "Diary"}), ("failing", {"mine": failing(4)}), ("without", None)):
        resolved = recipe(tmp_path, diaries)
        place = train(resolved.recipe, resolved.plugins, tmp_path / name)
        weights.append((place / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] == weights[2]


def test_a_reporter_keeps_its_folder_on_resume(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = recipe(tmp_path, {"mine": "Diary"}, steps=4)
    train(first.recipe, first.plugins, run)
    second = recipe(tmp_path, {"mine": "Diary", "new": "Diary"}, steps=6)
    train(second.recipe, second.plugins, run, resume=True)
    told = [entry[:2] + entry[2:3] * (entry[0] == "start") for entry in diary(run)]
    assert [entry[0] for entry in told] == ["start", "log", "log", "end", "start", "log", "end"]
    assert diary(run)[4][2:4] == [4, 6]
    assert diary(run, "new")[0][2:4] == [4, 6]


def test_a_failing_reporter_is_reported_once_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resolved, run = recipe(tmp_path, {"bad": failing(3), "good": "Diary"}), tmp_path / "run"
    train(resolved.recipe, resolved.plugins, run)
    said = capsys.readouterr().out
    told = "training.reporters.bad (Diary) failed: ConnectionError: the net is down; training continues"
    assert said.count(told) == 1
    assert "training.reporters.bad (Diary) failed 2 times; " in said
    assert [entry[0] for entry in diary(run, "good")] == ["start", "log", "log", "log", "end"]
    assert [entry[0] for entry in diary(run, "bad")] == ["start", "log", "end"]
    assert [line["step"] for line in read_metrics(run)] == [2, 4, 6]


def test_a_reporter_that_cannot_start_ends_a_new_run(tmp_path: Path) -> None:
    resolved, run = recipe(tmp_path, {"bad": failing(0)}), tmp_path / "run"
    with pytest.raises(
        PluginError, match=r"training\.reporters\.bad \(Diary\) failed: ConnectionError"
    ) as found:
        train(resolved.recipe, resolved.plugins, run)
    assert "no step was trained yet" in str(found.value)
    assert read_metrics(run) == []


def test_a_reporter_that_cannot_start_does_not_end_a_resumed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    first = recipe(tmp_path, steps=4)
    train(first.recipe, first.plugins, run)
    second = recipe(tmp_path, {"bad": failing(0)}, steps=6)
    train(second.recipe, second.plugins, run, resume=True)
    assert "training.reporters.bad (Diary) failed once; " in capsys.readouterr().out
    assert read_metrics(run)[-1]["step"] == 6


def test_a_missing_library_is_reported_when_the_recipe_is_resolved(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'diary\.yaml.*pip install "diary"') as found:
        recipe(tmp_path, {"mine": {"class_path": "Diary", "init_args": {"missing": True}}})
    assert found.value.faults[0].key == "training.reporters.mine.init_args.missing"


@pytest.mark.parametrize("name", ["../away", "", "a b", "ü"])
def test_a_name_that_is_not_a_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="letters, digits, - and _"):
        TrainingConfig(reporters={name: Silent()})


class Silent(ReporterConfig):
    """Remembers how the run ended."""

    def build(self) -> Any:
        return Remembering()


class Remembering:
    ends: list[RunStatus] = []  # noqa: RUF012 (of all of them, for the test to look at)

    def start(self, run: RunFacts, folder: Path) -> None:
        pass

    def log(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def end(self, status: RunStatus) -> None:
        self.ends.append(status)


@pytest.mark.parametrize(
    ("error", "status"), [(None, "finished"), (KeyboardInterrupt(), "stopped"), (ValueError(), "failed")]
)
def test_a_reporter_gets_the_status_of_the_run(
    error: BaseException | None, status: str, tmp_path: Path
) -> None:
    Remembering.ends.clear()
    observers = Callbacks(RunFacts(tmp_path, {}, 0, 1), {"mine": Silent()}, print)
    if error is None:
        with observers.watching():
            pass
    else:
        with pytest.raises(type(error)), observers.watching():
            raise error
    assert Remembering.ends == [status]


@pytest.mark.slow
def test_only_rank_zero_reports(tmp_path: Path) -> None:
    recipe(tmp_path, {"mine": "Diary"})
    done = run_ranks(2, "train", tmp_path / "diary.yaml", "--run-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert [re.sub(r"\W", "", str(entry[0])) for entry in diary(tmp_path / "run")] == [
        "start", "log", "log", "log", "end"
    ]  # fmt: skip
