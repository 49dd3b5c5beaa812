"""Fuse the rows of tasks and compute their losses. Imports torch.

B rows of a stream, I images of a row, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from x2kit.data.config import DataConfig
from x2kit.data.pipeline.batch import Rows, TaskRows
from x2kit.errors import PluginError, ShapeError
from x2kit.model import X2VLM
from x2kit.model.x2vlm import image_context
from x2kit.plugin import VisionFeatures
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.tasks import FusedTexts, Task
from x2kit.tasks.rows import images_at
from x2kit.training.step.fusion_pass import FusionPass

StreamTasks = Mapping[str, Task]
"""The tasks of streams, by stream."""


def build_tasks(data: DataConfig) -> dict[str, Task]:
    """Build the task of each stream whose task computes its own losses."""
    return {name: stream.task.build() for name, stream in data.streams.items() if stream.layout is None}


@torch.no_grad()
def with_chosen_images(
    model: X2VLM, name: str, task: Task | None, rows: Rows, features: VisionFeatures | None
) -> Rows:
    """Let the task of a stream choose the images of its rows; see `Task.choose_images`.

    Raises: ShapeError for rows of a batch without images.
    """
    if task is None or not isinstance(rows, TaskRows):
        return rows
    if features is None:
        raise ShapeError(f"stream {name}: {task.config.component_name()} has rows without an image")
    with component_faults(task.config):
        images, targets = task.choose_images(model, features, rows.images, rows.targets)
    return rows._replace(images=images, targets=dict(targets))


def add_task_rows(
    fusion: FusionPass,
    name: str,
    task: Task,
    rows: TaskRows,
    tokens: Sequence[Tensor],
    features: VisionFeatures | None,
    part: slice,
) -> None:
    """Add the pairs of text and image of a task's rows to the fusion pass.

    Args:
        name: of the stream.
        tokens: encoded texts [B, L, D], by place in the row.
        features: of the step's images.
        part: of the rows.
    Raises: ShapeError for rows of a batch without images.
    """
    if features is None:
        raise ShapeError(f"stream {name}: {task.config.component_name()} has rows without an image")
    for number, (text, image) in enumerate(task.config.pairs):
        context = image_context(features, images_at(rows.images[part], image))
        read = rows.texts[text].select(part)
        key = name, str(number)
        fusion.add(key, tokens[text][part], read.mask, context, task.config.pooled, read.lengths)


def task_losses(
    model: X2VLM,
    name: str,
    task: Task,
    rows: TaskRows,
    on: Sequence[str],
    fused: Mapping[tuple[str, str], Tensor],
    features: VisionFeatures | None,
    part: slice,
) -> dict[str, Tensor]:
    """Compute the losses of the rows that `add_task_rows` added with the same `features` and `part`.

    Args:
        on: the losses that are on.
    Raises: PluginError if the task fails or returns another value than a floating-point scalar for a loss.
    """
    pairs = task.config.pairs
    if (name, "0") not in fused or features is None:
        return {}
    texts = [
        FusedTexts(
            fused[name, str(number)],
            rows.texts[text].mask[part],
            image_context(features, images_at(rows.images[part], image)),
        )
        for number, (text, image) in enumerate(pairs)
    ]
    with component_faults(task.config):
        losses = task.loss(model, texts, {key: value[part] for key, value in rows.targets.items()})
    for loss in on:
        _require_scalar(task, loss, losses.get(loss))
    return {loss: losses[loss] for loss in on}


def task_counts(task: Task, rows: TaskRows, loss: str) -> Tensor:
    """Count per row what a loss averages over, [B]."""
    with component_faults(task.config):
        counts = task.counts(loss, rows.targets)
    return torch.ones_like(rows.images[:, 0]) if counts is None else counts


def _require_scalar(task: Task, name: str, loss: object) -> None:
    if not isinstance(loss, Tensor) or loss.ndim or not loss.is_floating_point():
        found = f"{list(loss.shape)} {loss.dtype}" if isinstance(loss, Tensor) else repr(loss)
        raise PluginError(
            f"task {task.config.component_name()}: the loss {name} must be a floating-point scalar, found {found}"
        )
