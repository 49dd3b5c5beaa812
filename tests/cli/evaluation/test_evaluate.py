from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
Calls = list[tuple[Any, ...]]


@pytest.fixture
def trained(x2kit: Run, calls: Calls) -> Calls:
    x2kit("train", "good.yaml", "--run-dir", "run")
    calls.clear()
    return calls


def test_a_run_is_evaluated_by_its_recipe(x2kit: Run, trained: Calls) -> None:
    done = x2kit("evaluate", "run")
    assert (done.status, done.err) == (0, "")
    ((_, recipe, plugins, directory, split, output),) = trained
    assert recipe.evaluation.split == "test"
    assert plugins.registry.get("task", "Rank")
    assert (directory, split, output) == (Path("run"), None, None)
    assert done.out == "a table of {'mean_all': 0.5}\n"


def test_split_keys_and_output_are_passed_on(x2kit: Run, trained: Calls) -> None:
    x2kit(
        "evaluate",
        "run",
        "--split",
        "validation",
        "--evaluation.tasks.retrieval.top_k",
        "9",
        "--output",
        "o.json",
    )
    _, recipe, _, _, split, output = trained[0]
    assert (split, recipe.evaluation.split, output) == ("validation", "validation", Path("o.json"))
    assert recipe.evaluation.tasks["retrieval"].top_k == 9


def test_the_result_is_also_json(x2kit: Run, trained: Calls) -> None:
    assert json.loads(x2kit("evaluate", "run", "--json").out) == {"mean_all": 0.5}


def test_a_weights_directory_is_enough(x2kit: Run, trained: Calls, folder: Path) -> None:
    (folder / "weights").mkdir()
    (folder / "run/recipe.yaml").rename(folder / "weights/recipe.yaml")
    assert x2kit("evaluate", "weights").status == 0
    assert trained[0][3] == Path("weights")


def test_the_training_data_may_be_gone(x2kit: Run, trained: Calls, folder: Path) -> None:
    stored = folder / "run/recipe.yaml"
    stored.write_text(stored.read_text().replace("file: null", "file: /gone.jsonl", 1))
    assert x2kit("evaluate", "run").status == 0


def test_an_overlay_may_change_only_the_evaluation(x2kit: Run, trained: Calls, folder: Path) -> None:
    (folder / "bench.yaml").write_text("evaluation: {languages: [de]}\n")
    assert x2kit("evaluate", "run", "--config", "bench.yaml").status == 0
    assert trained[0][1].evaluation.languages == ("de",)
    done = x2kit("evaluate", "run", "--config", "overlays/bf16")
    assert done.status == 2
    assert done.err.startswith(
        "recipes/overlays/bf16.yaml:3: training.precision: the run has 'fp32', found 'bf16'\n"
    )


def test_an_overlay_may_change_the_limits_of_records(x2kit: Run, trained: Calls, folder: Path) -> None:
    (folder / "bench.yaml").write_text("data: {limits: {max_record_bytes: 9}}\n")
    assert x2kit("evaluate", "run", "--config", "bench.yaml").status == 0
    assert trained[0][1].data.limits.max_record_bytes == 9


def test_an_unknown_language_is_refused(x2kit: Run, trained: Calls) -> None:
    done = x2kit("evaluate", "run", "--evaluation.languages", "[de, xx]")
    assert done.err == "command line: evaluation.languages: the source has no xx\n  known: en, de, zh\n"
    assert trained == []


def test_a_directory_without_a_run_is_refused(x2kit: Run, trained: Calls) -> None:
    done = x2kit("evaluate", ".")
    assert done.status == 2
    assert done.err.startswith(".: has no recipe.yaml; expected a run or weights directory\n")


def test_an_overlay_gives_weights_an_evaluation(x2kit: Run, trained: Calls, folder: Path) -> None:
    recipe = (folder / "run/recipe.yaml").read_text()
    (folder / "run/recipe.yaml").write_text(recipe[: recipe.index("evaluation:")])
    (folder / "measured.yaml").write_text("evaluation: {source: Scenes, tasks: {retrieval: Rank}}\n")
    assert x2kit("evaluate", "run").status == 2
    done = x2kit("evaluate", "run", "--config", "measured.yaml")
    assert (done.status, done.err) == (0, "")
    keys = ("--evaluation.source", "Scenes", "--evaluation.tasks.retrieval", "Rank")
    done = x2kit("evaluate", "run", *keys)
    assert (done.status, done.err) == (0, "")
    assert trained[-1][1].evaluation.tasks["retrieval"].top_k == 4


@pytest.fixture
def bench(folder: Path) -> str:
    """A recipe of another model, whose evaluation is wanted."""
    text = (folder / "good.yaml").read_text().replace("depth: 3", "depth: 5")
    (folder / "bench.yaml").write_text(text.replace("retrieval: Rank", "other: Rank"))
    return "bench.yaml"


def test_the_evaluation_of_another_recipe_replaces_that_of_the_weights(
    x2kit: Run, trained: Calls, bench: str
) -> None:
    done = x2kit("evaluate", "run", "--recipe", bench, "--evaluation.tasks.other.top_k", "7")
    assert (done.status, done.err) == (0, "")
    _, recipe, _, directory, _, output = trained[0]
    assert {name: task.top_k for name, task in recipe.evaluation.tasks.items()} == {"other": 7}
    assert recipe.model.text.depth == 3
    assert (directory, output) == (Path("run"), Path("run/evaluation-bench.json"))


def test_a_recipe_takes_its_weights_from_init_from(x2kit: Run, trained: Calls, bench: str) -> None:
    done = x2kit("evaluate", bench, "--model.init_from", "run", "--split", "validation")
    assert (done.status, done.err) == (0, "")
    _, recipe, _, directory, split, output = trained[0]
    assert list(recipe.evaluation.tasks) == ["other"]
    assert recipe.evaluation.split == split == "validation"
    assert (directory, output) == (Path("run"), Path("run/evaluation-bench-validation.json"))


def test_a_recipe_without_weights_is_refused_with_the_command(x2kit: Run, trained: Calls) -> None:
    done = x2kit("evaluate", "quickstart/english")
    assert done.status == 2
    assert done.err == (
        "quickstart/english: is a recipe; give the weights to evaluate: "
        "x2kit evaluate DIR --recipe quickstart/english\n"
    )
    assert "give one of them" in x2kit("evaluate", "run", "--recipe", "a", "--model.init_from", "b").err


def test_a_recipe_without_evaluation_is_refused(x2kit: Run, trained: Calls) -> None:
    done = x2kit("evaluate", "run", "--recipe", "official/x2vlm-base")
    assert "evaluation: missing: tasks and their data" in done.err
