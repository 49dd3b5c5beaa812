"""Weights & Biases: one run of theirs for one run of ours, however often it goes on. Imports wandb."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from x2kit.plugin import RunFacts, RunStatus
from x2kit_reporters import RUN_ID, WeightsAndBiases


class WandbReporter:
    """wandb writes and sends in a process of its own, so training waits for nothing but the start and the end."""

    def __init__(self, settings: WeightsAndBiases) -> None:
        self._settings = settings
        self._run: Any = None

    def start(self, run: RunFacts, folder: Path) -> None:
        """The run of the id in the folder goes on; where there is none, a new one begins."""
        known, settings = folder / RUN_ID, self._settings
        self._run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            name=settings.name or run.directory.name,
            group=settings.group,
            tags=list(settings.tags),
            mode=settings.mode,
            id=known.read_text(encoding="utf-8").strip() if known.exists() else None,
            resume="allow",
            config=dict(run.recipe),
            allow_val_change=True,  # a recipe may change where a run goes on
            dir=folder,
            settings=wandb.Settings(silent=True, console="off"),
        )
        known.write_text(self._run.id, encoding="utf-8")
        # Steps of our own, for wandb's only grow, and a run that goes on comes by some again.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Streams become sections: wandb takes what stands before a slash for one."""
        shown = {name.replace(".", "/", 1): value for name, value in values.items()}
        self._run.log({"step": step, **shown})

    def end(self, status: RunStatus) -> None:
        """What wandb knows is whether it went well."""
        self._run.summary["status"] = status
        self._run.finish(exit_code=1 if status == "failed" else 0)

    def add(self, run: RunFacts, folder: Path, values: Mapping[str, float]) -> None:
        """Put numbers beside those of a run that has ended: into its summary."""
        self.start(run, folder)
        self._run.summary.update(dict(values))
        self._run.finish()
