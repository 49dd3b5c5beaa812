"""Create run directories, and check what an existing one allows. Imports no torch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from x2kit.errors import CheckpointError, Fault, RecipeError
from x2kit.io.run_directory import LOCK, RECIPE, TRACEBACK, WEIGHTS, require_unlocked
from x2kit.recipe.changes import Difference, changes, differences, marked_keys
from x2kit.recipe.paths import absolute_plugin
from x2kit.recipe.reading import ResolvedRecipe, plugin_entries, read_recipe, read_tree, resolve_tree
from x2kit.recipe.validation import Checks
from x2kit.recipe.yaml_text import Node

FROM_HERE_ON = "; applies to the remaining steps"
LEFTOVERS = (LOCK, TRACEBACK)
"""Left by a run that failed before its first step; a new run may use the directory."""
RUN_FILES = ("versions.json", "metrics.jsonl", "checkpoints", WEIGHTS)


def new_run_directory(label: str) -> Path:
    """Return `runs/LABEL-DATE-TIME` in the working directory."""
    return Path("runs") / f"{label}-{datetime.now():%Y%m%d-%H%M%S}"


def holds_run(directory: Path) -> bool:
    """Return whether a run was started in a directory."""
    return (directory / RECIPE).is_file() and any((directory / name).exists() for name in RUN_FILES)


def prepare_run_directory(directory: Path, restart: bool) -> str | None:
    """Prepare a directory for a new run.

    Args:
        directory: may be missing.
        restart: delete the run in the directory.
    Returns: a message if a run was deleted, else None.
    Raises: CheckpointError if the directory is not empty and `restart` is not set, contains other files than a run, or
        is in use by a training process.
    """
    if directory.is_file():
        raise CheckpointError(f"{directory}: is a file, not a run directory")
    if not directory.is_dir() or all(file.name in LEFTOVERS for file in directory.iterdir()):
        require_unlocked(directory)
        return None
    if not holds_run(directory):
        raise CheckpointError(
            f"{directory}: is not empty and has no run ({RECIPE} and {' or '.join(RUN_FILES)}); "
            "choose another --run-dir"
        )
    if not restart:
        raise CheckpointError(
            f"{directory}: has a run; resume it with --resume, delete it with --restart, or choose another --run-dir"
        )
    require_unlocked(directory)
    shutil.rmtree(directory)
    return f"deleted the run in {directory} (--restart)"


def stored_recipe(
    directory: Path,
    overlays: Sequence[str] = (),
    overrides: Sequence[tuple[str, Any]] = (),
    plugins: Sequence[str] = (),
    checks: Checks = "evaluation",
    evaluation_of: str | None = None,
) -> ResolvedRecipe:
    """Read the recipe of a run or weights directory, with overlays and keys merged over it.

    Args:
        directory: a run or weights directory.
        overlays: names or paths.
        overrides: keys and values.
        plugins: allowed and loaded in addition.
        checks: what to check.
        evaluation_of: another recipe, by name or path, whose `evaluation` replaces the stored one; overlays and keys
            are then merged over it.
    Raises: CheckpointError if there is none; RecipeError if it is invalid with the installed plugins; PluginError if it
        names plugins that may not be imported.
    """
    for candidate in (directory / RECIPE, directory / WEIGHTS / RECIPE):
        if candidate.is_file() and evaluation_of is None:
            return read_recipe([candidate, *overlays], overrides, plugins, checks=checks, saved=True)
        if candidate.is_file() and evaluation_of is not None:
            files, tree = read_tree([candidate], saved=True)
            _, other = read_tree([evaluation_of, *overlays], overrides)
            tree, own = _with_evaluation(tree, other)
            return resolve_tree(tree, files, [*plugins, *own], checks=checks)
    reason = f"has no {RECIPE}" if directory.is_dir() else "no such directory"
    raise CheckpointError(
        f"{directory}: {reason}; expected a run or weights directory\n"
        "  create one: x2kit train RECIPE --run-dir DIR"
    )


def _with_evaluation(tree: Node, other: Node) -> tuple[Node, list[str]]:
    """Replace `evaluation` by that of another recipe; return the result and the plugins of the other one."""
    evaluation = other.child("evaluation")
    if evaluation is None:
        raise RecipeError([Fault("evaluation", str(other.place), "missing: tasks and their data")])
    assert isinstance(tree.value, dict)
    plugins = [absolute_plugin(str(entry.value), entry.place) for entry in plugin_entries(other)]
    return Node({**tree.value, "evaluation": evaluation}, tree.place), plugins


def require_same_run(stored: ResolvedRecipe, requested: ResolvedRecipe) -> list[str]:
    """Check that a run can resume with a changed recipe.

    Returns: a message for each changed key.
    Raises: RecipeError for changed keys that must not change on resume.
    """
    found = changes(stored.recipe, requested.recipe)
    faults = [_fault(change.difference, requested) for change in found if change.mark is None]
    if faults:
        free = ", ".join(key for key, _ in marked_keys())
        advice = f"  only these keys may change on resume: {free}; start another run to change others"
        raise RecipeError([*faults, Fault("", "", advice)])
    return [
        f"changed: {key}: {before!r}, now {after!r}{FROM_HERE_ON if mark and mark.numbers_change else ''}"
        for (key, before, after), mark in found
    ]


def require_same_model(stored: ResolvedRecipe, requested: ResolvedRecipe) -> None:
    """Raise RecipeError if `requested` changes more than the evaluation of trained weights."""
    faults = _changed(
        stored, requested, ("description", "plugins", "evaluation", "evaluation.", "data.limits.")
    )
    if faults:
        advice = "  only evaluation.* and data.limits.* may change for trained weights"
        raise RecipeError([*faults, Fault("", "", advice)])


def _changed(stored: ResolvedRecipe, requested: ResolvedRecipe, free: Sequence[str]) -> list[Fault]:
    return [
        _fault(change, requested)
        for change in differences(stored.recipe, requested.recipe)
        if not any(change.key == name or (name[-1] == "." and change.key.startswith(name)) for name in free)
    ]


def _fault(change: Difference, requested: ResolvedRecipe) -> Fault:
    message = f"the run has {change.before!r}, found {change.after!r}"
    return Fault(change.key, requested.origin(change.key), message)
