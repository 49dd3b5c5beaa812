"""Hook specifications; a plugin is a module that implements some of them. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pluggy

from x2kit.plugin.loading.subcommands import Subcommands
from x2kit.plugin.registry import Registry
from x2kit.plugin.training import RunFacts, RunStatus

PROJECT = "x2kit"
API_VERSION = 1
"""Version of x2kit.plugin. A plugin may require one: `x2kit_api = "1"` or `">=1,<3"`."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def x2kit_register(registry: Registry) -> None:
    """Register components: `registry.add(MyEncoder)`. Import no torch and no model library here."""


@hookspec
def x2kit_subcommands(subcommands: Subcommands) -> None:
    """Add subcommands: `subcommands.add("mine", "my_plugin.mine", "help text")`. Installed plugins only."""


@hookspec
def x2kit_run_started(run: RunFacts) -> None:
    """Called before the first step of a new or resumed run. All hooks of a run are called on rank 0 only.

    An exception here ends a new run. Later exceptions are logged once and counted, and training continues.
    """


@hookspec
def x2kit_step_done(run: RunFacts, step: int, values: Mapping[str, float] | None) -> None:
    """Called after each step. Training waits until it returns.

    Args:
        run: as in `x2kit_run_started`.
        step: number of completed steps.
        values: the line of metrics.jsonl every `training.log_every` steps and at the end; None after other steps,
            whose values stay on the device.
    """


@hookspec
def x2kit_checkpoint_saved(run: RunFacts, step: int, checkpoint: Path) -> None:
    """Called when a checkpoint is complete on disk; with `training.async_saving`, as on a GPU, after a later step.

    Args:
        run: as in `x2kit_run_started`.
        step: number of completed steps in the checkpoint.
        checkpoint: its directory. Do not change it; it is removed according to `training.keep_last`.
    """


@hookspec
def x2kit_run_ended(run: RunFacts, status: RunStatus) -> None:
    """Called at the end of a run: "finished", "stopped" or "failed". Final weights are written afterwards."""


@hookspec
def x2kit_evaluation_done(directory: Path, recipe: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Called after an evaluation is written. An exception is logged; the result is kept.

    Args:
        directory: directory of the run or of the weights.
        recipe: the resolved recipe: plain values by key, including defaults.
        result: content of evaluation.json.
    """
