from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from x2kit.recipe import read_recipe

Run = Callable[..., Any]
Calls = list[tuple[Any, ...]]


def test_the_resolved_recipe_is_trained(x2kit: Run, calls: Calls, folder: Path) -> None:
    done = x2kit(
        "train",
        "good.yaml",
        "--config",
        "overlays/bf16",
        "--model.text",
        "OtherReader",
        "--training.steps=200",
        "--run-dir",
        "runs/mine",
    )
    assert (done.status, done.err) == (0, "")
    ((_, recipe, plugins, directory, resume),) = calls
    assert recipe.training.steps == 200
    assert recipe.training.precision == "bf16"
    assert recipe.model.text.component_name() == "OtherReader"
    assert recipe.plugins == (str(folder / "stubs.py"),)
    assert plugins.registry.get("vision", "Eye")
    assert (directory, resume) == (Path("runs/mine"), False)
    assert done.out.endswith("next: x2kit evaluate runs/mine\n")


def test_the_whole_recipe_is_printed_and_nothing_is_trained(x2kit: Run, calls: Calls, folder: Path) -> None:
    asked = ("train", "good.yaml", "--model.text", "OtherReader", "--training.steps", "7", "--print_config")
    done = x2kit(*asked)
    assert (done.status, done.err, calls) == (0, "", [])
    (folder / "printed.yaml").write_text(done.out)
    assert x2kit("train", "printed.yaml", "--print_config").out == done.out
    resolved = read_recipe(["good.yaml"], [("model.text", "OtherReader"), ("training.steps", 7)])
    assert read_recipe(["printed.yaml"]).recipe == resolved.recipe


def test_a_shipped_recipe_is_printed_as_it_is_shown(x2kit: Run) -> None:
    printed = x2kit("train", "quickstart/multilingual", "--print_config")
    assert printed.out == x2kit("recipes", "show", "quickstart/multilingual", "--plain").out


def test_a_run_without_directory_gets_a_new_one(x2kit: Run, calls: Calls) -> None:
    x2kit("train", "good.yaml")
    assert re.fullmatch(r"runs/good-\d{8}-\d{6}", str(calls[0][3]))


def test_a_plugin_of_the_command_line_is_enough(x2kit: Run, calls: Calls, folder: Path) -> None:
    (folder / "bare.yaml").write_text((folder / "good.yaml").read_text().replace("plugins: [stubs.py]\n", ""))
    assert x2kit("train", "bare.yaml").status == 2
    assert x2kit("train", "bare.yaml", "--plugin", "stubs.py").status == 0


def test_overlays_alone_may_make_a_recipe(x2kit: Run, calls: Calls) -> None:
    assert x2kit("train", "--config", "good.yaml", "--config", "overlays/debug").status == 0
    assert calls[0][1].training.steps == 6


def test_an_invalid_recipe_starts_and_deletes_nothing(x2kit: Run, calls: Calls, folder: Path) -> None:
    x2kit("train", "good.yaml", "--run-dir", "run")
    done = x2kit("train", "good.yaml", "--run-dir", "run", "--restart", "--training.steps", "-1")
    assert done.err == "command line: training.steps: should be greater than or equal to 0, found -1\n"
    assert (folder / "run/metrics.jsonl").exists()
    assert len(calls) == 1


def test_a_directory_with_a_run_is_refused_with_what_to_do(x2kit: Run, calls: Calls) -> None:
    x2kit("train", "good.yaml", "--run-dir", "run")
    assert x2kit("train", "good.yaml", "--run-dir", "run") == (
        2,
        "",
        "run: has a run; resume it with --resume, delete it with --restart, or choose another --run-dir\n",
    )
    assert len(calls) == 1


def test_restart_deletes_the_run_and_reports_it(x2kit: Run, calls: Calls, folder: Path) -> None:
    x2kit("train", "good.yaml", "--run-dir", "run")
    (folder / "run/old").write_text("")
    done = x2kit("train", "good.yaml", "--run-dir", "run", "--restart")
    assert done.out.startswith("deleted the run in run (--restart)\n")
    assert not (folder / "run/old").exists()
    new = x2kit("train", "good.yaml", "--run-dir", "new", "--restart", "--training.warmup", "0")
    assert new.out == "next: x2kit evaluate new\n"


def test_resume_uses_the_stored_recipe(x2kit: Run, calls: Calls) -> None:
    x2kit("train", "good.yaml", "--run-dir", "run", "--training.steps", "77")
    assert x2kit("train", "--resume", "--run-dir", "run").status == 0
    _, recipe, _, directory, resume = calls[1]
    assert (recipe, directory, resume) == (calls[0][1], Path("run"), True)


def test_resume_accepts_the_same_recipe_and_harmless_keys(x2kit: Run, calls: Calls) -> None:
    x2kit("train", "good.yaml", "--run-dir", "run")
    done = x2kit(
        "train",
        "good.yaml",
        "--run-dir",
        "run",
        "--resume",
        "--data.num_workers",
        "1",
        "--training.device=cpu",
    )
    assert (done.status, done.err) == (0, "")
    assert calls[1][1].data.num_workers == 1


def test_resume_reports_changed_keys(x2kit: Run, calls: Calls) -> None:
    x2kit("train", "good.yaml", "--run-dir", "run")
    done = x2kit("train", "--resume", "--run-dir", "run", "--training.steps", "11", "--training.keep_last=5")
    assert done.out.splitlines()[:2] == [
        "changed: training.steps: 10, now 11; applies to the remaining steps",
        "changed: training.keep_last: 2, now 5",
    ]
    assert calls[1][1].training.steps == 11


def test_resume_with_another_recipe_is_refused_with_what_changed(x2kit: Run, calls: Calls) -> None:
    x2kit("train", "good.yaml", "--run-dir", "run")
    done = x2kit("train", "--resume", "--run-dir", "run", "--training.seed", "5", "--training.steps", "11")
    assert done.status == 2
    first, second = done.err.splitlines()
    assert first == "command line: training.seed: the run has 42, found 5"
    assert second.startswith(
        "  only these keys may change on resume: description, plugins, data.num_workers, "
    )
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume needs the run directory: --run-dir DIR\n"),
        (
            ["--resume", "--restart", "--run-dir", "run"],
            "--resume and --restart exclude each other; give one of them\n",
        ),
        (
            ["--resume", "--run-dir", "absent"],
            "absent: no such directory; expected a run or weights directory",
        ),
    ],
)
def test_resume_without_a_run_is_refused(
    x2kit: Run, calls: Calls, arguments: list[str], message: str
) -> None:
    done = x2kit("train", *arguments)
    assert done.status == 2
    assert done.err.startswith(message)
    assert calls == []


def test_warnings_are_printed_at_the_start(x2kit: Run, calls: Calls) -> None:
    done = x2kit("train", "good.yaml", "--training.lr", "2.5e-3", "--run-dir", "run")
    assert done.status == 0
    assert "warning: command line: training.lr: 0.0025 is 25 times" in done.out
    assert "warning: good.yaml:26: training.warmup: 2500 warm-up steps exceed the 10" in done.out
