"""Measuring trained weights: all tasks of a recipe on one split, into one JSON file. Imports torch."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import yaml

from x2kit.data.config import IMAGE_KINDS, DataConfig
from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import Fault, RecipeError, X2KitError
from x2kit.evaluation.config import EvaluationConfig
from x2kit.evaluation.warnings import warnings_of
from x2kit.io.run_directory import read_metrics
from x2kit.model.build import build_model, without_initialisation
from x2kit.model.config import ModelConfig
from x2kit.model.device import choose_device
from x2kit.model.saving import MODEL, RECIPE, read_weights, weights_directory
from x2kit.plugin.choice import dump_component
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import SourceConfig
from x2kit.plugin.loading.manager import Plugins
from x2kit.plugin.sources import Source
from x2kit.plugin.tasks import TaskContext
from x2kit.tasks.records import find_languages

RESULT = "evaluation.json"
_log = logging.getLogger(__name__)


class Recipe(Protocol):
    """What evaluation needs of a recipe; `x2kit.Recipe` has it."""

    @property
    def model(self) -> ModelConfig: ...
    @property
    def data(self) -> DataConfig: ...
    @property
    def evaluation(self) -> EvaluationConfig | None: ...
    def to_yaml(self) -> str: ...


def evaluation_of(recipe: Recipe) -> EvaluationConfig:
    """What a recipe measures. Raises RecipeError if it does not say."""
    if recipe.evaluation is None:
        raise RecipeError([Fault("evaluation", "", "missing: what is measured, on which records")])
    return recipe.evaluation


def no_progress(what: str, done: int, total: int) -> None:
    """Show nothing."""


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
    """Measure trained weights with all tasks of the recipe, and write the result.

    Args:
        directory: a run directory or a weights directory.
        recipe: that of the weights; says also what is measured, and which languages stood beside images in
            training. It was resolved with all plugins that the weights need, so they are not looked for again.
        plugins: those that the recipe was resolved with; they are named in the result.
        split: part of the records; the recipe's by default.
        output: the file; None writes evaluation.json into `directory`, or evaluation-SPLIT.json for another split
            than the stored recipe's, so that the one does not overwrite the other.
        device: auto, or a torch device.
        progress: called with what is done, how much of it, and how much there is; at rank 0 alone, with its part.
        processes: who measures; all of them call this. Each does its part of the core's tasks and the whole of a
            task that knows nothing of them; the result of rank 0 counts, and rank 0 alone writes.
    Returns: what was written, in every process.
    Raises: RecipeError if the recipe does not say what is measured; WeightsError for a directory without weights;
        DataError for a broken record; X2KitError if a task returns what JSON cannot hold.
    """
    began = time.monotonic()
    config = evaluation_of(recipe)
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
    contexts = {name: context for name in config.tasks}
    for name in config.sources:
        own = measured[f"sources.{name}"]
        trained = trained_with_images(recipe.data, own.languages)
        contexts[name] = replace(
            context, source=own.source, languages=own.languages, trained_with_images=trained
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
        task.check(contexts[name])  # all of them before the first measures for hours
    for name, task in config.tasks.items():
        add_result(result, name, task.run(contexts[name]))
    result["warnings"] = warnings_of(result)
    result["seconds"] = round(time.monotonic() - began, 2)
    processes.wait()  # a result is written if no process has failed
    if processes.is_rank_zero:
        write_result(result, output or directory / result_name(weights, split))
        call_plugins(plugins, directory, recipe, result)
    written: dict[str, Any] = processes.from_rank_zero(result)
    return written


class Measured(NamedTuple):
    """Records that are measured on, and the languages that are measured on them."""

    config: SourceConfig
    source: Source
    languages: tuple[str, ...]


def open_sources(config: EvaluationConfig, split: str) -> dict[str, Measured]:
    """Open every source of the evaluation, by its key; equal ones once."""
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
    """Settings, fingerprint and number of records of the shared source; those of single tasks in `sources`."""

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
    """Call the hook x2kit_evaluation_done of each plugin; what one raises is logged, for the result is there."""
    for plugin, call in plugins.implementing("x2kit_evaluation_done"):
        try:
            call(directory=directory, recipe=yaml.safe_load(recipe.to_yaml()), result=copy.deepcopy(result))
        except Exception as error:  # noqa: BLE001 (a stranger's code, and his network)
            _log.warning(
                "x2kit_evaluation_done of plugin %s failed: %s: %s", plugin, type(error).__name__, error
            )


def add_result(result: dict[str, Any], name: str, found: Mapping[str, Any]) -> None:
    """What a task found, at the top level of the result; where a key is taken, all of it in `tasks.NAME.result`.

    So two tasks of one kind do not overwrite each other, and no task overwrites what says where the numbers
    come from.
    """
    if found.keys() & {*result, "warnings", "seconds"}:
        result["tasks"][name]["result"] = dict(found)
    else:
        result.update(found)


def trained_with_images(data: DataConfig, languages: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the measured languages whose texts stood beside images in training.

    Where a source cannot tell its languages unread, or no stream is known, as with converted weights, all count as
    trained: zero-shot is claimed only if it is known.
    """
    if not data.streams:
        return languages
    seen: set[str] = set()
    for stream in data.streams.values():
        if stream.kind in IMAGE_KINDS:
            spoken = stream.languages or stream.source.languages()
            if spoken is None:
                return languages
            seen.update(spoken)
    return tuple(code for code in languages if code in seen)


def config_name(component: Any) -> str:
    """A component as one line: name and the settings that are not its defaults."""
    given = component.model_dump(mode="json", exclude_defaults=True)
    return f"{component.component_name()}({', '.join(f'{key}={value}' for key, value in given.items())})"


def describe_checkpoint(weights: Path) -> dict[str, Any]:
    """Where the weights are, the SHA-256 of their file, and the steps that the run's metrics tell, if it has any."""
    with (weights / MODEL).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    metrics = read_metrics(weights.parent)
    steps = metrics[-1]["step"] if metrics else None
    return {"path": str(weights / MODEL), "sha256": digest, "steps": steps}


def result_name(weights: Path, split: str) -> str:
    """evaluation.json for the split that the stored recipe measures, evaluation-SPLIT.json for another."""
    stored = yaml.safe_load((weights / RECIPE).read_text(encoding="utf-8"))
    usual = (stored.get("evaluation") or {}).get("split", EvaluationConfig.model_fields["split"].default)
    return RESULT if split == usual else f"evaluation-{split}.json"


def write_result(result: Mapping[str, Any], file: Path) -> None:
    """Write JSON so that the file is the old one or the new one, never half of one."""
    try:
        text = json.dumps(result, ensure_ascii=False, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise X2KitError(
            f"{file}: a task returned what JSON cannot hold ({error}); tasks return plain finite numbers, texts, "
            "lists and mappings"
        ) from error
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}.partial")
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(file)


def read_result(file: Path) -> dict[str, Any]:
    """A result that was written. Raises X2KitError if it is missing or damaged."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise X2KitError(f"{file}: no readable result ({error}); x2kit evaluate writes one") from error
    if not isinstance(found, dict) or not math.isfinite(found.get("seconds", 0)):
        raise X2KitError(f"{file}: not a result of x2kit evaluate")
    return found
