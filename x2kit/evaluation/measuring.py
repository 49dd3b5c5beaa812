"""Open the records of an evaluation and make the contexts of its tasks. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from x2kit.data.config import DataConfig
from x2kit.distributed.processes import ALONE, Processes
from x2kit.evaluation.config import EvaluationConfig, Recipe
from x2kit.model.device import autocast, choose_precision
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import SourceConfig, TaskConfig
from x2kit.plugin.sources import Source
from x2kit.plugin.tasks import TaskContext
from x2kit.tasks.records import find_languages
from x2kit.tasks.rows import measure_rows

Progress = Callable[[str, int, int], None]
"""Called with stage, finished and total items."""


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing."""


def save_nothing(task: str, name: str, content: Any) -> None:
    """Save no file of a task."""


class Measured(NamedTuple):
    """An open source and the languages measured on it."""

    config: SourceConfig
    source: Source
    languages: tuple[str, ...]


def open_sources(
    sources: Mapping[str, SourceConfig], languages: tuple[str, ...] | None
) -> dict[str, Measured]:
    """Open sources by key; equal ones are opened once.

    Args:
        sources: of the split to measure.
        languages: to measure; None for all of each source.
    """
    opened: list[Measured] = []
    found = {}
    for key, config in sources.items():
        known = next((measured for measured in opened if measured.config == config), None)
        if known is None:
            with component_faults(config):
                source = config.open()
            spoken = languages or config.languages() or find_languages(source)
            known = Measured(config, source, spoken)
            opened.append(known)
        found[key] = known
    return found


def task_contexts(
    model: X2VLM,
    recipe: Recipe,
    config: EvaluationConfig,
    measured: Mapping[str, Measured],
    split: str,
    progress: Progress = no_progress,
    processes: Processes = ALONE,
    save: Callable[[str, str, Any], None] = save_nothing,
) -> dict[str, TaskContext]:
    """Make the context of each task by its name.

    Args:
        model: in evaluation mode.
        recipe: has the languages with image-text training data.
        config: tasks and batch size.
        measured: the open sources; a task without `sources.TASK` reads the first one.
        split: of the records.
        progress: called on rank 0.
        processes: ranks that share the work.
        save: called with task, name and content of a file beside the result.
    """
    shared, *_ = measured.values()
    context = TaskContext(
        model=model,
        source=shared.source,
        split=split,
        languages=shared.languages,
        trained_with_images=trained_with_images(recipe.data, shared.languages),
        device=model.device,
        batch_size=config.batch_size,
        progress=progress if processes.is_rank_zero else no_progress,
        ranks=processes,
    )
    contexts = {}
    for name in config.tasks:
        own = measured.get(f"sources.{name}", shared)
        trained = trained_with_images(recipe.data, own.languages)
        contexts[name] = replace(
            context,
            source=own.source,
            languages=own.languages,
            trained_with_images=trained,
            save=partial(save, name),
        )
    return contexts


def run_task(task: TaskConfig, context: TaskContext, precision: str) -> Mapping[str, Any]:
    """Measure a task, row by row unless it has a procedure of its own; `precision` as from `precision_of`."""
    with autocast(context.device, precision):
        found = task.run(context)
        return measure_rows(task, context) if found is None else found


def precision_of(config: EvaluationConfig, model: X2VLM) -> str:
    """Return the precision of an evaluation. Raises X2KitError if the model's device does not support it."""
    return choose_precision(config.precision, model.device, "evaluation.precision")


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


def numbers_of(name: str, value: Any) -> dict[str, float]:
    """Flatten the finite numbers of a result by dotted name: `retrieval.languages.en.mean_r1`."""
    if isinstance(value, Mapping):
        return {
            key: number
            for inner, item in value.items()
            for key, number in numbers_of(f"{name}.{inner}", item).items()
        }
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    return {name: float(value)} if is_number else {}
