"""Register reporters for TensorBoard, Weights & Biases and MLflow, and send them results of evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from x2kit.plugin import Registry, RunFacts, hookimpl
from x2kit_reporters.config import MLflow, TensorBoard, WeightsAndBiases
from x2kit_reporters.reporting import numbers, read_run_id

__all__ = ["MLflow", "TensorBoard", "WeightsAndBiases", "x2kit_evaluation_done", "x2kit_register"]


@hookimpl
def x2kit_evaluation_done(directory: Path, recipe: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Add the results to the runs of the reporters that the recipe names."""
    for name, chosen in recipe["training"]["reporters"].items():
        folder = directory / "reporters" / name
        config = {"WeightsAndBiases": WeightsAndBiases, "MLflow": MLflow}.get(chosen["class_path"])
        if config is None or read_run_id(folder) is None:
            continue
        reporter: Any = config.model_validate(chosen["init_args"]).build()
        reporter.add(RunFacts(directory, recipe, 0, 0), folder, numbers(result))


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the reporters."""
    registry.add(TensorBoard)
    registry.add(WeightsAndBiases)
    registry.add(MLflow)
