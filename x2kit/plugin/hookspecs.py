"""The hooks. A plugin is a module that implements some of them. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pluggy

from x2kit.plugin.registry import Registry
from x2kit.plugin.reporters import RunFacts, RunStatus
from x2kit.plugin.subcommands import Subcommands

PROJECT = "x2kit"
API_VERSION = 1
"""The version of x2kit.plugin. A plugin may say which it needs: `x2kit_api = "1"` or `">=1,<3"`."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def x2kit_register(registry: Registry) -> None:
    """Add this plugin's components: `registry.add(MyEncoder)`. Import no torch and no model library here."""


@hookspec
def x2kit_subcommands(subcommands: Subcommands) -> None:
    """Add commands: `subcommands.add("mine", "my_plugin.mine", "what x2kit mine does")`. Of installed plugins alone."""


@hookspec
def x2kit_run_started(run: RunFacts) -> None:
    """A run is about to make its first step, or goes on. Called at rank 0 alone, as all hooks of a run are.

    What it raises in a new run ends it. Whatever is raised later is said once and counted, and the run goes on.
    """


@hookspec
def x2kit_step_done(run: RunFacts, step: int, values: Mapping[str, float] | None) -> None:
    """So many steps are done. Training waits until it returns.

    Args:
        run: as in `x2kit_run_started`.
        step: steps done.
        values: the line of metrics.jsonl after every `training.log_every` steps and at the end; None after the others,
            whose values stay on the device.
    """


@hookspec
def x2kit_checkpoint_saved(run: RunFacts, step: int, checkpoint: Path) -> None:
    """A checkpoint is whole and on the disk. With `training.async_saving` this is found out after a later step.

    Args:
        run: as in `x2kit_run_started`.
        step: steps that it holds.
        checkpoint: its directory, which is not to be changed and will be removed as `training.keep_last` says.
    """


@hookspec
def x2kit_run_ended(run: RunFacts, status: RunStatus) -> None:
    """All steps are done ("finished"), or no more comes ("stopped", "failed"). Final weights are written after it."""


@hookspec
def x2kit_evaluation_done(directory: Path, recipe: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Weights were measured and the result is written. What it raises is said, and the result stands.

    Args:
        directory: of the run, or of the weights.
        recipe: as it was resolved: plain values by key, defaults included.
        result: what evaluation.json holds.
    """
