"""Evaluate trained weights on all tasks of a recipe and write a JSON file. Imports torch."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from x2kit.data.config import DataConfig
from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import X2KitError
from x2kit.evaluation.config import EvaluationConfig, Recipe, require_evaluation
from x2kit.evaluation.warnings import warnings_of
from x2kit.io.atomic import atomic_file
from x2kit.io.run_directory import read_metrics
from x2kit.model.build import build_model, without_initialisation
from x2kit.model.device import choose_device
from x2kit.model.saving import MODEL, RECIPE, read_weights, weights_directory
from x2kit.plugin.choice import dump_component
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import SourceConfig
from x2kit.plugin.loading.manager import Plugins
from x2kit.plugin.sources import Source
from x2kit.plugin.tasks import TaskContext, save_nothing
from x2kit.tasks.records import find_languages
from x2kit.tasks.rows import measure_rows

RESULT = "evaluation.json"
_log = logging.getLogger(__name__)


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing."""


def evaluate(
    directory: Path,
    recipe: Recipe,
    plugins: Plugins,
    split: str | None = None,
    output: Path | None = None,
    *,
    device: str = "auto",
    progress: Callable[[str, int, int], None] = no_progress,
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
    recipe.data.limits.apply()
    measured = open_sources(config, split)
    context = TaskContext(
        model=model,
        source=measured["source"].source,
        split=split,
        languages=measured["source"].languages,
        trained_with_images=trained_with_images(recipe.data, measured["source"].languages),
        device=model.device,
        batch_size=config.batch_size,
        progress=progress if processes.is_rank_zero else no_progress,
        ranks=processes,
    )
    file = output or directory / result_name(weights, split)
    contexts = {}
    for name in config.tasks:
        own = measured.get(f"sources.{name}", measured["source"])
        contexts[name] = replace(
            context,
            source=own.source,
            languages=own.languages,
            trained_with_images=trained_with_images(recipe.data, own.languages),
            save=partial(_save, file, name) if processes.is_rank_zero else save_nothing,
        )
    result: dict[str, Any] = {
        "split": split,
        "checkpoint": describe_checkpoint(weights),
        "data": describe_sources(config, measured, processes),
        "model": {
            "vision": config_name(recipe.model.vision),
            "text": config_name(recipe.model.text),
            "fusion": config_name(recipe.model.fusion),
            "parameters": sum(p.numel() for p in model.parameters()),
            "image_size": model.image_spec.size,
        },
        "tasks": {name: dump_component(task) for name, task in config.tasks.items()},
        "plugins": [f"{s.name} ({s.distribution})" for s in plugins.states if s.status == "active"],
    }
    for name, task in config.tasks.items():
        task.check(contexts[name])  # all checks before hours of measuring
    for name, task in config.tasks.items():
        found = task.run(contexts[name])
        if found is None:
            result["tasks"][name]["result"] = measure_rows(task, contexts[name])
        else:
            add_result(result, name, found)
    result["warnings"] = warnings_of(result)
    result["seconds"] = round(time.monotonic() - began, 2)
    processes.wait()  # write only if no rank failed
    if processes.is_rank_zero:
        write_result(result, file)
        call_plugins(plugins, directory, recipe, result)
    written: dict[str, Any] = processes.from_rank_zero(result)
    return written


class Measured(NamedTuple):
    """An open source and the languages measured on it."""

    config: SourceConfig
    source: Source
    languages: tuple[str, ...]


def open_sources(config: EvaluationConfig, split: str) -> dict[str, Measured]:
    """Open every source of the evaluation by key; equal sources are opened once."""
    opened: list[Measured] = []
    found = {}
    for key, one in config.keyed_sources().items():
        of_split = one.for_split(split)
        known = next((measured for measured in opened if measured.config == of_split), None)
        if known is None:
            with component_faults(of_split):
                source = of_split.open()
            languages = config.languages or of_split.languages() or find_languages(source)
            known = Measured(of_split, source, languages)
            opened.append(known)
        found[key] = known
    return found


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
    if found.keys() & {*result, "warnings", "seconds"}:
        result["tasks"][name]["result"] = dict(found)
    else:
        result.update(found)


def trained_with_images(data: DataConfig, languages: tuple[str, ...]) -> tuple[str, ...]:
    """Select the measured languages with image-text training data.

    All languages count as trained if a source does not know its languages without reading it, or the recipe has no
    streams (converted weights): zero-shot is reported only if certain.
    """
    if not data.streams:
        return languages
    seen: set[str] = set()
    for stream in data.streams.values():
        if stream.has_images:
            spoken = stream.languages or stream.source.languages()
            if spoken is None:
                return languages
            seen.update(spoken)
    return tuple(code for code in languages if code in seen)


def config_name(component: Any) -> str:
    """Format a component as one line: name and settings that differ from their defaults."""
    given = component.model_dump(mode="json", exclude_defaults=True)
    return f"{component.component_name()}({', '.join(f'{key}={value}' for key, value in given.items())})"


def describe_checkpoint(weights: Path) -> dict[str, Any]:
    """Describe the weights: path, SHA-256, and the last step in the run's metrics, if any."""
    with (weights / MODEL).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    metrics = read_metrics(weights.parent)
    steps = metrics[-1]["step"] if metrics else None
    return {"path": str(weights / MODEL), "sha256": digest, "steps": steps}


def _save(file: Path, task: str, name: str, content: Any) -> None:
    """Write a file of a task beside the result: RESULT-TASK-NAME.json."""
    write_result(content, file.with_name(f"{file.stem}-{task}-{name}.json"))


def result_name(weights: Path, split: str) -> str:
    """Return evaluation.json for the split of the stored recipe, evaluation-SPLIT.json for another."""
    stored = yaml.safe_load((weights / RECIPE).read_text(encoding="utf-8"))
    usual = (stored.get("evaluation") or {}).get("split", EvaluationConfig.model_fields["split"].default)
    return RESULT if split == usual else f"evaluation-{split}.json"


def write_result(result: Any, file: Path) -> None:
    """Write a result as JSON, atomically. Raises X2KitError for values that JSON cannot represent."""
    try:
        text = json.dumps(result, ensure_ascii=False, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise X2KitError(
            f"{file}: a task's result is not JSON-serialisable ({error}); expected finite numbers, texts, lists and "
            "mappings"
        ) from error
    with atomic_file(file) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_result(file: Path) -> dict[str, Any]:
    """Read a result of `x2kit evaluate`. Raises X2KitError if it is missing or damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise X2KitError(f"{file}: no readable result ({error}); x2kit evaluate writes one") from error
    if not isinstance(found, dict) or not math.isfinite(found.get("seconds", 0)):
        raise X2KitError(f"{file}: not a result of x2kit evaluate")
    return found
