"""Measure a model while it is trained, for `evaluation.every`. Imports torch."""

from __future__ import annotations

from typing import Literal

from x2kit.distributed.processes import ALONE, Processes
from x2kit.evaluation.config import Recipe, require_evaluation
from x2kit.evaluation.measuring import (
    Progress,
    no_progress,
    numbers_of,
    open_sources,
    precision_of,
    run_task,
    task_contexts,
)
from x2kit.model.x2vlm import X2VLM


class Validator:
    """Measure all tasks of a recipe on its validation records; `x2kit.training.train` calls it.

    Args:
        recipe: with `evaluation.every`.
        processes: ranks of the run, which share the work.
    Raises: RecipeError for a recipe without evaluation; SettingError for a source without the split; DataError.
    """

    def __init__(self, recipe: Recipe, processes: Processes = ALONE) -> None:
        config = require_evaluation(recipe)
        self._recipe, self._config, self._processes = recipe, config, processes
        self.every: int | None = config.every
        self.split = config.validation_split
        self.select: str | None = config.select
        self.best_is: Literal["highest", "lowest"] = config.best_is
        self.patience: int | None = config.patience
        recipe.data.limits.apply()
        languages = config.languages if config.select_source is None else None
        self._sources = open_sources(config.validation_sources(), languages)

    def check(self, model: X2VLM) -> None:
        """Check the records of every task. Raises DataError before hours of training."""
        contexts = task_contexts(
            model, self._recipe, self._config, self._sources, self.split, processes=self._processes
        )
        for name, task in self._config.tasks.items():
            task.check(contexts[name])

    def measure(self, model: X2VLM, progress: Progress = no_progress) -> dict[str, float]:
        """Measure all tasks.

        Args:
            model: in evaluation mode; every rank has the same weights.
            progress: called with stage, finished and total items, on rank 0.
        Returns: all numbers of all results by TASK.METRIC, those of rank 0 on every rank.
        """
        contexts = task_contexts(
            model, self._recipe, self._config, self._sources, self.split, progress, self._processes
        )
        numbers: dict[str, float] = {}
        for name, task in self._config.tasks.items():
            result = run_task(task, contexts[name], precision_of(self._config, model))
            numbers |= numbers_of(name, result)
            if (score := result.get("score")) and "mean" in result:  # vqa.accuracy, the mean over languages
                numbers[f"{name}.{score}"] = float(result["mean"])
        found: dict[str, float] = self._processes.from_rank_zero(numbers)
        return found
