"""The page that chooses a task names every task and every recipe for one, and nothing that does not exist."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from x2kit import tasks
from x2kit.recipe.catalogue import shipped

from .pages import DOCS, prose

NAMES = set(re.findall(r"`([^`]+)`", prose(DOCS / "how-to" / "choose-a-task.md")))
FOLDERS = ("finetune/", "evaluate/")


def test_every_recipe_for_a_task_is_on_the_page() -> None:
    recipes = {str(file.name) for file in shipped() if str(file.name).startswith(FOLDERS)}
    named = {name for name in NAMES if name.startswith(FOLDERS)}
    assert {recipe for recipe in recipes if not any(fnmatchcase(recipe, name) for name in named)} == set()
    assert {name for name in named if not any(fnmatchcase(recipe, name) for recipe in recipes)} == set()


def test_every_task_is_on_the_page() -> None:
    assert {name for name in tasks.__all__ if getattr(tasks, name).kind == "task"} <= NAMES
