"""Validate a model during training, select its best checkpoint, and stop early. Imports torch.

The values are in metrics.jsonl and in metrics.json of the checkpoints, as SPLIT.TASK.METRIC. Best checkpoint and early
stop follow from them alone, so a resumed run decides as one that was never stopped.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from x2kit.io.run_directory import read_metrics
from x2kit.model import X2VLM
from x2kit.training.checkpoint.checkpoints import BestIs, best_step, checkpoints, logged_metrics, step_of


class Validator(Protocol):
    """Measures a model in memory; `x2kit.evaluation.validation.Validator`.

    Attributes:
        every: steps between validations; None for none.
        split: of the records.
        select: name of the value that selects the best checkpoint; None for the last one.
        best_is: its best value.
        patience: validations without a better value before training stops; None for none.
    """

    every: int | None
    split: str
    select: str | None
    best_is: BestIs
    patience: int | None

    def check(self, model: X2VLM) -> None:
        """Check the records. Raises DataError."""

    def measure(self, model: X2VLM, progress: Callable[[str, int, int], None]) -> dict[str, float]:
        """Return numbers by TASK.METRIC, equal on all ranks."""


@dataclass
class Selection:
    """Values of the selecting metric, and the decisions that follow from them.

    Attributes:
        split: of the validations.
        metric: TASK.METRIC.
        best_is: its best value.
        patience: validations without a better value before training stops; None for none.
        values: by step.
    """

    split: str
    metric: str
    best_is: BestIs = "highest"
    patience: int | None = None
    values: dict[int, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the value in metrics.jsonl."""
        return f"{self.split}.{self.metric}"

    def best(self) -> int | None:
        """Return the step of the best value, the first of equal ones; None without values."""
        return best_step(self.values, self.best_is)

    def stops(self) -> bool:
        """Return whether `patience` validations have passed since the best one."""
        best = self.best()
        later = [step for step in self.values if best is not None and step > best]
        return self.patience is not None and len(later) >= self.patience

    def describe(self, step: int) -> str:
        """Describe a validation as one line."""
        best = self.best()
        rank = (
            "the best so far" if best == step else f"best: {self.values[best or step]:.4g} after step {best}"
        )
        return f"validation after step {step}: {self.name} {self.values[step]:.4g}, {rank}"

    def describe_stop(self, step: int) -> str:
        """Describe an early stop."""
        return (
            f"stopped early after step {step}: {self.patience} validations without a better {self.name} "
            "(evaluation.patience)"
        )


class Best(NamedTuple):
    """The best checkpoint of a run.

    Attributes:
        checkpoint: its directory.
        facts: content of selection.json: metric, split, best_is, value, step, validations.
    """

    checkpoint: Path
    facts: dict[str, Any]

    def describe(self) -> str:
        """Describe the selected weights as one line."""
        facts = self.facts
        return (
            f"selected: step {facts['step']}, {facts['split']}.{facts['metric']} {facts['value']:.4g}, the best of "
            f"{facts['validations']} validations"
        )


def selection_of(validator: Validator | None, run: Path) -> Selection | None:
    """Read the values so far from metrics.jsonl; None if no metric selects."""
    if validator is None or validator.every is None or validator.select is None:
        return None
    found = Selection(validator.split, validator.select, validator.best_is, validator.patience)
    found.values |= {line["step"]: line[found.name] for line in read_metrics(run) if found.name in line}
    return found


def best_checkpoint(run: Path, selection: Selection) -> Best | None:
    """Find the best checkpoint on disk, and describe its selection.

    Only a run that was resumed with another metric has deleted a better one.
    """
    found = {step_of(path): path for path in checkpoints(run)}
    logged = {step: logged_metrics(path) for step, path in found.items()}
    values = {step: line[selection.name] for step, line in logged.items() if selection.name in line}
    best = best_step(values, selection.best_is)
    if best is None:
        return None
    facts = {
        "metric": selection.metric,
        "split": selection.split,
        "best_is": selection.best_is,
        "value": values[best],
        "step": best,
        "validations": len(selection.values),
    }
    return Best(found[best], facts)


@contextmanager
def evaluation_mode(model: X2VLM) -> Iterator[None]:
    """Set the model to evaluation mode; restore each module's mode and all random states afterwards.

    Tasks draw from a fixed seed, so that equal weights give equal numbers.
    """
    modes = {module: module.training for module in model.modules()}
    python, arrays = random.getstate(), np.random.get_state()
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            random.setstate(python)
            np.random.set_state(arrays)


def missing_metric(numbers: Mapping[str, float], select: str | None) -> str | None:
    """Describe a selecting metric that is not in the results; None if it is."""
    if select is None or select in numbers:
        return None
    found = ", ".join(sorted(numbers)) or "none"
    return f"evaluation.select: no number {select!r} in the results of the tasks; found: {found}"


def names_to_log(numbers: Mapping[str, float], select: str | None) -> list[str]:
    """Select the names for metrics.jsonl: those at the top of each result, and the selecting one."""
    return [name for name in numbers if name.count(".") == 1 or name == select]
