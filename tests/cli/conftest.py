"""A working directory with the stub plugin and recipe of tests/recipe, and the command line in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from x2kit import evaluation, training
from x2kit.cli import main
from x2kit.evaluation import report, table
from x2kit.io.run_directory import RECIPE

STUBS = Path(__file__).parents[1] / "recipe"


class Done(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The new working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    shutil.copy(STUBS / "stub_plugin.py", "stubs.py")
    shutil.copy(STUBS / "good.yaml", "good.yaml")
    return tmp_path


@pytest.fixture
def x2kit(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs `x2kit` with these arguments."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        try:
            status = main(arguments)
        except SystemExit as left:
            status = int(left.code or 0)
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Record the calls of training and evaluation, whose functions are replaced by stubs."""
    record: list[tuple[Any, ...]] = []

    def train(
        recipe: Any, plugins: Any, directory: Path, resume: bool, processes: Any, validator: Any
    ) -> None:
        record.append(("train", recipe, plugins, directory, resume))
        directory.mkdir(parents=True, exist_ok=True)
        (directory / RECIPE).write_text(recipe.to_yaml())
        (directory / "metrics.jsonl").write_text("{}\n")

    def measure(
        directory: Path,
        recipe: Any,
        plugins: Any,
        split: str | None,
        output: Path | None,
        *,
        name: str | None = None,
        progress: Any,
        processes: Any,
    ) -> Any:
        progress("matching, en", 1, 2)
        record.append(("evaluate", recipe, plugins, directory, split, output))
        return {"mean_all": 0.5}

    def write_report(directory: Path, recipe: Any, plugins: Any) -> Path:
        record.append(("report", recipe, plugins, directory))
        return directory / "report.html"

    def render(result: Any) -> str:
        return f"a table of {result}"

    # monkeypatch.setattr would read the old value first, which imports torch
    monkeypatch.setitem(vars(training), "train", train)
    monkeypatch.setitem(vars(evaluation), "evaluate", measure)
    monkeypatch.setitem(vars(table), "render", render)
    monkeypatch.setitem(vars(report), "write_report", write_report)
    return record
