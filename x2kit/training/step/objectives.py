"""Compute the objectives that plugins add to a stream's losses. Imports torch.

Like the contrastive loss they run after the encoders on the whole batch, also with `training.accumulation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from x2kit.data.config import DataConfig
from x2kit.data.pipeline.batch import PairedRows, ParallelRows, TaskRows, TextRows
from x2kit.errors import PluginError
from x2kit.model import X2VLM
from x2kit.plugin import VisionFeatures
from x2kit.plugin.components import ObjectiveConfig
from x2kit.plugin.objectives import EncodedTexts, MeanOver, Objective, StreamFeatures
from x2kit.training.step.plan import StreamPlan
from x2kit.training.step.rank_exchange import RankExchange
from x2kit.training.teachers import Teacher


class StreamObjective(NamedTuple):
    """An objective of a stream.

    Attributes:
        key: recipe key and component, for messages.
        over: "pairs" for a loss over pairs of rows of all ranks, "rows" for a mean over rows of one rank.
        loss: from features to a scalar.
        teacher: whose embeddings it compares with; None without one.
    """

    key: str
    over: MeanOver
    loss: Objective
    teacher: Teacher | None = None


Objectives = Mapping[str, Mapping[str, StreamObjective]]
"""By stream and name."""


def build_objectives(
    data: DataConfig, teachers: Mapping[str, Teacher] | None = None
) -> dict[str, dict[str, StreamObjective]]:
    """Build the objectives of all streams.

    Args:
        data: the recipe's.
        teachers: of the streams that have one.
    Raises: PluginError for an objective with parameters, as training would neither train nor save them.
    """
    return {
        name: {
            key: _build(
                f"data.streams.{name}.objectives.{key}",
                config,
                (teachers or {}).get(name) if config.taught else None,
            )
            for key, config in stream.objectives.items()
        }
        for name, stream in data.streams.items()
    }


def _build(key: str, config: ObjectiveConfig, teacher: Teacher | None) -> StreamObjective:
    key = f"{key} ({config.component_name()})"
    objective = config.build()
    if isinstance(objective, nn.Module) and (found := [name for name, _ in objective.named_parameters()]):
        raise PluginError(
            f"{key}: an objective has no parameters, as training neither trains nor saves them; found "
            f"{', '.join(found)}"
        )
    return StreamObjective(key, config.over, objective, teacher)


def objective_losses(
    model: X2VLM,
    plan: StreamPlan,
    features: VisionFeatures | None,
    objectives: Mapping[str, StreamObjective],
    exchange: RankExchange | None = None,
) -> dict[str, Tensor]:
    """Compute the losses of a stream's objectives.

    Args:
        features: of the step's images.
        objectives: those that are on, by name.
        exchange: set in a run of several ranks; the mean over ranks is the loss of the whole batch.
    Returns: scalars by name, unweighted.
    Raises: PluginError if an objective fails or returns no floating-point scalar.
    """
    losses: dict[str, Tensor] = {}
    inputs: dict[MeanOver, StreamFeatures] = {}
    for name, objective in objectives.items():
        over = objective.over
        if over not in inputs:
            inputs[over] = _features(model, plan, features, exchange if over == "pairs" else None)
        given = inputs[over]
        rows = len(plan.texts.clean[0])
        # Where other ranks have all rows, a mean over none would be NaN.
        loss = (
            _loss(objective, _taught(given, plan, objective))
            if rows or over == "pairs"
            else given.second.sum()
        )
        if over == "rows" and exchange is not None and plan.whole is not None:
            loss = loss * exchange.row_weight(plan.whole)
        losses[name] = loss
    return losses


def _features(
    model: X2VLM, plan: StreamPlan, features: VisionFeatures | None, exchange: RankExchange | None
) -> StreamFeatures:
    rows, texts = plan.rows, plan.texts.clean
    assert not isinstance(rows, TextRows | TaskRows)  # recipe validation refuses their objectives
    if isinstance(rows, PairedRows):
        assert plan.image is not None
        first, second = model.project_images(plan.image.summary), model.project_texts(texts[0])
        masks, temperature = [rows.texts.mask], model.temperature
    else:
        first, second = map(model.project_texts, texts)
        masks, temperature = [rows.first.mask, rows.second.mask], model.text_temperature
    group = rows.group
    if exchange is not None and rows.whole is not None:
        ((first, second),) = exchange.gather_features([rows.whole], [(first, second)])
        group = rows.whole.group
    inputs = StreamFeatures(first, second, group, temperature, list(map(EncodedTexts, texts, masks)))
    if not isinstance(rows, PairedRows) or plan.image is None:
        return inputs
    return inputs._replace(
        summary=plan.image.summary, region_mask=plan.image.mask, images=rows.images, vision=features
    )


def _taught(features: StreamFeatures, plan: StreamPlan, objective: StreamObjective) -> StreamFeatures:
    """Add the teacher's embeddings for an objective that has one."""
    if objective.teacher is None or not isinstance(plan.rows, ParallelRows) or plan.rows.taught is None:
        return features
    return features._replace(teacher=objective.teacher.embed(plan.rows.taught))


def _loss(objective: StreamObjective, features: StreamFeatures) -> Tensor:
    device = features.second.device
    try:
        with torch.autocast(device.type, enabled=False):
            loss = objective.loss(features)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # plugin code: the message names the objective
        raise PluginError(f"{objective.key} failed: {type(error).__name__}: {error}") from error
    if not isinstance(loss, Tensor) or loss.ndim or not loss.is_floating_point():
        found = f"{list(loss.shape)} {loss.dtype}" if isinstance(loss, Tensor) else type(loss)
        raise PluginError(f"{objective.key}: an objective returns a floating-point scalar, found {found}")
    return loss
