"""Evaluate trained weights on all tasks of a recipe and write a JSON file. Imports torch."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import X2KitError
from x2kit.evaluation.config import EvaluationConfig, Recipe, require_evaluation
from x2kit.evaluation.items import items_file, write_items
from x2kit.evaluation.measuring import (
    Measured,
    Progress,
    no_progress,
    open_sources,
    precision_of,
    run_task,
    save_nothing,
    task_contexts,
)
from x2kit.evaluation.rankings import rankings_file, write_rankings
from x2kit.evaluation.warnings import warnings_of
from x2kit.io.atomic import atomic_file
from x2kit.io.identity import sha256_of
from x2kit.io.run_directory import MODEL, RECIPE, SELECTION, identifying_file, read_metrics
from x2kit.model.build import build_model, without_initialisation
from x2kit.model.device import choose_device
from x2kit.model.saving import read_weights, weights_directory
from x2kit.plugin.choice import dump_component
from x2kit.plugin.loading.manager import Plugins
from x2kit.plugin.toolkit.item_values import ItemValues

RESULT = "evaluation.json"
_log = logging.getLogger(__name__)


def evaluate(
    directory: Path,
    recipe: Recipe,
    plugins: Plugins,
    split: str | None = None,
    output: Path | None = None,
    *,
    device: str = "auto",
    name: str | None = None,
    progress: Progress = no_progress,
    processes: Processes = ALONE,
) -> dict[str, Any]:
    """Evaluate trained weights on all tasks of the recipe and write the result.

    Args:
        directory: a run directory or a weights directory.
        recipe: of the weights, resolved with every plugin that they need; also has the tasks, and the languages with
            image-text training data.
        plugins: those that the recipe was resolved with, listed in the result.
        split: of the records; the recipe's by default.
        output: the file; None writes evaluation.json to `directory`, or evaluation-SPLIT.json if the split differs
            from that of the stored recipe.
        device: auto, or a torch device.
        name: of the model, for the result, if it is not a local directory.
        progress: called with stage, finished and total items of rank 0; on rank 0 only.
        processes: ranks that share the work; all call this function. A task that ignores ranks runs whole on each.
            Rank 0 writes its result.
    Returns: the written result, on every rank.
    Raises: RecipeError for a recipe without evaluation; WeightsError for a directory without weights; DataError for a
        broken record; X2KitError if a task's result is not JSON-serialisable.
    """
    began = time.monotonic()
    config = require_evaluation(recipe)
    split = split or config.split
    weights = weights_directory(directory)
    with without_initialisation():
        model = build_model(recipe.model, assets=weights)
    read_weights(model, weights / MODEL)
    model.to(choose_device(device)).eval()
    precision = precision_of(config, model)
    recipe.data.limits.apply()
    measured = open_sources(
        {key: one.for_split(split) for key, one in config.keyed_sources().items()}, config.languages
    )
    file = output or directory / result_name(weights, split)
    save = partial(_save, file) if processes.is_rank_zero else save_nothing
    contexts = task_contexts(model, recipe, config, measured, split, progress, processes, save)
    items: dict[str, list[ItemValues]] = {name: [] for name in config.tasks}
    if processes.is_rank_zero:  # every rank has the values of all
        contexts = {name: replace(one, save_items=items[name].append) for name, one in contexts.items()}
    result: dict[str, Any] = {
        "split": split,
        "checkpoint": describe_checkpoint(weights) | ({} if name is None else {"name": name}),
        "selection": read_selection(weights),
        "data": describe_sources(config, measured, processes),
        "model": {
            "vision": config_name(recipe.model.vision),
            "text": config_name(recipe.model.text),
            "fusion": config_name(recipe.model.fusion),
            "parameters": sum(p.numel() for p in model.parameters()),
            "image_size": model.image_spec.size,
            "precision": precision,
        },
        "tasks": {name: dump_component(task) for name, task in config.tasks.items()},
        "plugins": [f"{s.name} ({s.distribution})" for s in plugins.states if s.status == "active"],
    }
    if config.expectations:
        result["expectations"] = {n: one.model_dump(mode="json") for n, one in config.expectations.items()}
    for name, task in config.tasks.items():
        task.check(contexts[name])  # all checks before hours of measuring
    for name, task in config.tasks.items():
        add_result(result, name, run_task(task, contexts[name], precision))
    result["warnings"] = warnings_of(result)
    result["seconds"] = round(time.monotonic() - began, 2)
    processes.wait()  # write only if no rank failed
    if processes.is_rank_zero:
        _json_text(result, file)  # refused before any file is written
        for name, values in items.items():
            trained = contexts[name].trained_with_images
            result["tasks"][name] |= _save_items(file, name, values, trained)
        write_result(result, file)
        call_plugins(plugins, directory, recipe, result)
    written: dict[str, Any] = processes.from_rank_zero(result)
    return written


def describe_sources(
    config: EvaluationConfig, measured: Mapping[str, Measured], processes: Processes
) -> dict[str, Any]:
    """Describe the shared source (settings, fingerprint, number of records), and in `sources` those of single tasks."""

    def described(one: Measured) -> dict[str, Any]:
        return {
            "source": dump_component(one.config),
            "fingerprint": processes.from_rank_zero(
                one.source.fingerprint() if processes.is_rank_zero else None
            ),
            "records": len(one.source),
        }

    found = described(measured["source"])
    if config.sources:
        found["sources"] = {task: described(measured[f"sources.{task}"]) for task in config.sources}
    return found


def call_plugins(plugins: Plugins, directory: Path, recipe: Recipe, result: Mapping[str, Any]) -> None:
    """Call the hook x2kit_evaluation_done of each plugin; exceptions are logged, as the result is already written."""
    for plugin, call in plugins.implementing("x2kit_evaluation_done"):
        try:
            call(directory=directory, recipe=yaml.safe_load(recipe.to_yaml()), result=copy.deepcopy(result))
        except Exception as error:  # noqa: BLE001 (third-party code)
            _log.warning(
                "x2kit_evaluation_done of plugin %s failed: %s: %s", plugin, type(error).__name__, error
            )


def add_result(result: dict[str, Any], name: str, found: Mapping[str, Any]) -> None:
    """Merge a task's result into the top level, or store it in `tasks.NAME.result` if a key is taken.

    So tasks of one kind do not overwrite each other, and no task overwrites the description of checkpoint and data.
    """
    if found.keys() & {*result, "scores", "warnings", "seconds"}:
        result["tasks"][name]["result"] = dict(found)
    else:
        result.update(found)


def config_name(component: Any) -> str:
    """Format a component as one line: name and settings that differ from their defaults."""
    given = component.model_dump(mode="json", exclude_defaults=True)
    return f"{component.component_name()}({', '.join(f'{key}={value}' for key, value in given.items())})"


def describe_checkpoint(weights: Path) -> dict[str, Any]:
    """Describe the weights: path, SHA-256, and their step: the selected or the last one of the run, if known."""
    file = identifying_file(weights)
    digest = sha256_of(file)
    metrics = [read_selection(weights) or {}, *reversed(read_metrics(weights.parent))]
    steps = next((line["step"] for line in metrics if "step" in line), None)
    return {"path": str(file), "sha256": digest, "steps": steps}


def read_selection(weights: Path) -> dict[str, Any] | None:
    """Read metric, split, value and step of the validation that selected the weights; None for the last ones."""
    file = weights / SELECTION
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _save(file: Path, task: str, name: str, content: Any) -> None:
    """Write a file of a task beside the result: RESULT-TASK-NAME.json."""
    write_result(content, file.with_name(f"{file.stem}-{task}-{name}.json"))


def _save_items(
    file: Path, task: str, values: Sequence[ItemValues], trained: Sequence[str]
) -> dict[str, Any]:
    """Write items and rankings of a task beside the result; return their description for the result."""
    if not values:
        return {}
    found = {"items": write_items(items_file(file, task), task, values, trained)}
    rankings = write_rankings(rankings_file(file, task), values)
    return found if rankings is None else {**found, "rankings": rankings}


def result_name(weights: Path, split: str) -> str:
    """Return evaluation.json for the split of the stored recipe, evaluation-SPLIT.json for another."""
    stored = yaml.safe_load((weights / RECIPE).read_text(encoding="utf-8"))
    usual = (stored.get("evaluation") or {}).get("split", EvaluationConfig.model_fields["split"].default)
    return RESULT if split == usual else f"evaluation-{split}.json"


def write_result(result: Any, file: Path) -> None:
    """Write a result as JSON, atomically. Raises X2KitError for values that JSON cannot represent."""
    text = _json_text(result, file)
    with atomic_file(file) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _json_text(result: Any, file: Path) -> str:
    try:
        return json.dumps(result, ensure_ascii=False, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise X2KitError(
            f"{file}: a task's result is not JSON-serialisable ({error}); expected finite numbers, texts, lists and "
            "mappings"
        ) from error


def read_result(file: Path) -> dict[str, Any]:
    """Read a result of `x2kit evaluate`. Raises X2KitError if it is missing or damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise X2KitError(f"{file}: no readable result ({error}); x2kit evaluate writes one") from error
    if not isinstance(found, dict) or not math.isfinite(found.get("seconds", 0)):
        raise X2KitError(f"{file}: not a result of x2kit evaluate")
    return found
