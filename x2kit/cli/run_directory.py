"""Run directories on the command line: a name for a new one, and what may be done with one that exists."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from x2kit.errors import CheckpointError, Fault, RecipeError
from x2kit.io.run_directory import LOCK, TRACEBACK, require_unlocked
from x2kit.recipe.changes import Difference, changes, differences, marked_keys
from x2kit.recipe.reading import ResolvedRecipe, read_recipe
from x2kit.recipe.validation import Checks

RECIPE, WEIGHTS = "recipe.yaml", "weights"
FROM_HERE_ON = "; the steps that are left are made with it"
LEFTOVERS = (LOCK, TRACEBACK)
"""Left by a run that failed before its first step; they keep nobody from using the directory."""
TRACES = ("versions.json", "metrics.jsonl", "checkpoints", WEIGHTS)


def new_run_directory(label: str) -> Path:
    """`runs/LABEL-DATE-TIME` in the working directory."""
    return Path("runs") / f"{label}-{datetime.now():%Y%m%d-%H%M%S}"


def holds_run(directory: Path) -> bool:
    """Whether a run was started here."""
    return (directory / RECIPE).is_file() and any((directory / name).exists() for name in TRACES)


def make_room(directory: Path, restart: bool) -> str | None:
    """Make sure that a new run may use this directory.

    Args:
        directory: need not exist.
        restart: delete the run that it holds.
    Returns: what was deleted, to be said; None if nothing was.
    Raises: CheckpointError if it is not empty and `restart` is not set, if it holds anything but a run, or if a
        process trains in it.
    """
    if directory.is_file():
        raise CheckpointError(f"{directory}: is a file, not a run directory")
    if not directory.is_dir() or all(file.name in LEFTOVERS for file in directory.iterdir()):
        require_unlocked(directory)
        return None
    if not holds_run(directory):
        raise CheckpointError(
            f"{directory}: is not empty and holds no run (no {RECIPE} beside {' or '.join(TRACES)}); "
            "name another --run-dir"
        )
    if not restart:
        raise CheckpointError(
            f"{directory}: holds a run already; --resume continues it, --restart deletes it and starts "
            "again, another --run-dir keeps it"
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
) -> ResolvedRecipe:
    """The recipe that a run directory or a weights directory holds, with what is laid over it.

    Raises: CheckpointError if it holds none; RecipeError if it does not fit what is installed now; PluginError if it
        names plugins that may not be imported.
    """
    for candidate in (directory / RECIPE, directory / WEIGHTS / RECIPE):
        if candidate.is_file():
            return read_recipe([candidate, *overlays], overrides, plugins, checks=checks, saved=True)
    reason = f"holds no {RECIPE}" if directory.is_dir() else "no such directory"
    raise CheckpointError(
        f"{directory}: {reason}, so it is neither a run directory nor a weights directory\n"
        "  x2kit train RECIPE --run-dir DIR makes one"
    )


def same_run(stored: ResolvedRecipe, wanted: ResolvedRecipe) -> list[str]:
    """What changed since a run began.

    Returns: a line for each changed key, with what it means for the steps that are left.
    Raises: RecipeError if going on with `wanted` would make another run of the stored one.
    """
    found = changes(stored.recipe, wanted.recipe)
    faults = [_fault(change.difference, wanted) for change in found if change.mark is None]
    if faults:
        free = ", ".join(key for key, _ in marked_keys())
        advice = f"  a run goes on as it began; only {free} may differ; start another run for the rest"
        raise RecipeError([*faults, Fault("", "", advice)])
    return [
        f"changed: {key}: {before!r}, now {after!r}{FROM_HERE_ON if mark and mark.numbers_change else ''}"
        for (key, before, after), mark in found
    ]


def same_model(stored: ResolvedRecipe, wanted: ResolvedRecipe) -> None:
    """Raise RecipeError if `wanted` differs from what was trained in more than its evaluation."""
    faults = _changed(stored, wanted, ("description", "plugins", "evaluation", "evaluation.", "data.limits."))
    if faults:
        advice = (
            "  the weights are trained; only evaluation.* and data.limits.* may be laid over their recipe"
        )
        raise RecipeError([*faults, Fault("", "", advice)])


def _changed(stored: ResolvedRecipe, wanted: ResolvedRecipe, free: Sequence[str]) -> list[Fault]:
    return [
        _fault(change, wanted)
        for change in differences(stored.recipe, wanted.recipe)
        if not any(change.key == name or (name[-1] == "." and change.key.startswith(name)) for name in free)
    ]


def _fault(change: Difference, wanted: ResolvedRecipe) -> Fault:
    message = f"the run has {change.before!r}, found {change.after!r}"
    return Fault(change.key, wanted.origin(change.key), message)
