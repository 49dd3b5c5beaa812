"""Report to Weights & Biases; a run keeps one wandb run however often it is resumed. Imports wandb."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wandb

from x2kit.plugin import RunFacts, RunStatus
from x2kit_reporters.reporting import read_run_id, write_run_id

if TYPE_CHECKING:
    from x2kit_reporters.config import WeightsAndBiases


class WandbReporter:
    """Reporter to wandb, which sends from a separate process: training waits only at the start and at the end."""

    def __init__(self, settings: WeightsAndBiases) -> None:
        self._settings = settings
        self._run: Any = None

    def start(self, run: RunFacts, folder: Path) -> None:
        """Resume the run whose id is in the folder, or create one."""
        settings = self._settings
        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            name=settings.name or run.directory.name,
            group=settings.group,
            tags=list(settings.tags),
            mode=settings.mode,
            id=read_run_id(folder),
            resume="allow",
            config=dict(run.recipe),
            allow_val_change=True,  # a resumed run may have a changed recipe
            dir=folder,
            settings=wandb.Settings(silent=True, console="off"),
        )
        write_run_id(folder, self._run.id)
        # wandb's own step only grows, but a resumed run logs some steps again.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log the values; wandb groups them by the part before a slash, the stream."""
        shown = {name.replace(".", "/", 1): value for name, value in values.items()}
        self._run.log({"step": step, **shown})

    def end(self, status: RunStatus) -> None:
        """Finish the run; wandb records failure by the exit code."""
        self._run.summary["status"] = status
        self._run.finish(exit_code=1 if status == "failed" else 0)

    def add(self, run: RunFacts, folder: Path, values: Mapping[str, float]) -> None:
        """Add numbers to the summary of a run that has ended."""
        self.start(run, folder)
        self._run.summary.update(dict(values))
        self._run.finish()
