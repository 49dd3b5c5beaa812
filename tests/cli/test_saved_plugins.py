"""What a run or weights directory names is data: no subcommand that reads it runs its code unasked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
READERS = (
    ("evaluate", "evil"),
    ("evaluate", "evil", "--evaluation.help"),
    ("report", "evil"),
    ("report", "evil", "--evaluation.help"),
    ("train", "--resume", "--run-dir", "evil"),
    ("train", "evil/recipe.yaml"),
    ("recipes", "show", "evil/recipe.yaml"),
    ("recipes", "validate", "evil/recipe.yaml"),
    ("recipes", "diff", "evil/recipe.yaml", "good.yaml"),
    ("recipes", "diff", "good.yaml", "evil/recipe.yaml"),
)


@pytest.fixture
def evil(folder: Path) -> Path:
    """A run directory whose recipe names a file that leaves a mark when it is imported."""
    directory = folder / "evil"
    directory.mkdir()
    recipe = (folder / "good.yaml").read_text().replace("[stubs.py]", "[./evil.py]")
    (directory / "recipe.yaml").write_text(recipe)
    (directory / "metrics.jsonl").write_text("")
    stubs = (folder / "stubs.py").read_text()
    (directory / "evil.py").write_text(f"{stubs}\nopen({str(folder / 'imported')!r}, 'w').close()\n")
    return directory


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_no_subcommand_imports_what_a_directory_names(
    x2kit: Run, evil: Path, folder: Path, arguments: tuple[str, ...]
) -> None:
    done = x2kit(*arguments)
    assert done.status == 2
    assert f"--plugin {evil / 'evil.py'}" in done.err
    assert not (folder / "imported").exists()


@pytest.mark.parametrize("named", ["evil", "evil/../evil"])
def test_a_directory_with_only_a_recipe_needs_consent_too(
    x2kit: Run, evil: Path, folder: Path, named: str
) -> None:
    (evil / "metrics.jsonl").unlink()
    assert x2kit("evaluate", named).status == 2
    assert not (folder / "imported").exists()


def test_a_saved_recipe_cannot_hide_a_plugin_in_its_base(x2kit: Run, evil: Path, folder: Path) -> None:
    (evil / "below").mkdir()
    shutil.move(evil / "recipe.yaml", evil / "below" / "more.yaml")
    shutil.move(evil / "evil.py", evil / "below" / "evil.py")
    (evil / "recipe.yaml").write_text("base: below/more.yaml\n")
    assert x2kit("evaluate", "evil").status == 2
    (folder / "mine.yaml").write_text("base: evil/recipe.yaml\n")
    assert x2kit("recipes", "show", "mine.yaml").status == 2
    assert not (folder / "imported").exists()


def test_the_command_in_the_error_imports_it(x2kit: Run, calls: list[Any], evil: Path, folder: Path) -> None:
    assert x2kit("evaluate", "evil", "--plugin", str(evil / "evil.py")).status == 0
    assert (folder / "imported").exists()


def test_a_recipe_that_the_user_names_may_name_plugins(x2kit: Run, evil: Path, folder: Path) -> None:
    shutil.move(evil / "evil.py", folder / "evil.py")
    shutil.move(evil / "recipe.yaml", folder / "recipe.yaml")
    assert x2kit("recipes", "show", "recipe.yaml").status == 0
    assert (folder / "imported").exists()
