"""The losses that plugins add to those of a stream: objectives. Imports torch.

They are computed where the contrastive loss is: after the encoders, on the whole batch, and with
`training.accumulation` between the encoders' two runs, so its parts do not show.

B rows of one process, W rows of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from x2kit.data.config import DataConfig
from x2kit.data.pipeline.batch import PairedRows, TextRows
from x2kit.errors import PluginError
from x2kit.model import X2VLM
from x2kit.plugin import VisionFeatures
from x2kit.plugin.components import ObjectiveConfig
from x2kit.plugin.objectives import EncodedTexts, MeanOver, Objective, StreamFeatures
from x2kit.training.step.remote_rows import RankExchange

if TYPE_CHECKING:
    from x2kit.training.step.losses import StepPlan


class StreamObjective(NamedTuple):
    """An objective of a stream.

    Attributes:
        key: in the recipe, and its component, for messages.
        over: what it is a mean over.
        loss: of features.
    """

    key: str
    over: MeanOver
    loss: Objective


Objectives = Mapping[str, Mapping[str, StreamObjective]]
"""By stream and name."""


def build_objectives(data: DataConfig) -> dict[str, dict[str, StreamObjective]]:
    """The objectives of all streams. Raises PluginError for one with parameters, which nothing would train or save."""
    return {
        name: {
            own: _built(f"data.streams.{name}.objectives.{own}", config)
            for own, config in stream.objectives.items()
        }
        for name, stream in data.streams.items()
    }


def _built(key: str, config: ObjectiveConfig) -> StreamObjective:
    key = f"{key} ({config.component_name()})"
    objective = config.build()
    if isinstance(objective, nn.Module) and any(True for _ in objective.parameters()):
        raise PluginError(
            f"{key}: an objective has no parameters, as nothing would train or save them; found some"
        )
    return StreamObjective(key, config.over, objective)


def objective_losses(
    model: X2VLM,
    stream: StepPlan,
    features: VisionFeatures | None,
    objectives: Mapping[str, StreamObjective],
    partners: RankExchange | None = None,
) -> dict[str, Tensor]:
    """The losses of a stream's objectives, unweighted.

    Args:
        features: of the step's images.
        objectives: those that are on, by name.
        partners: the other processes. The mean over all of them is the loss of the whole batch.
    Raises: PluginError if an objective fails, or gives something that is no scalar.
    """
    found: dict[str, Tensor] = {}
    inputs: dict[MeanOver, StreamFeatures] = {}
    for name, further in objectives.items():
        if further.over not in inputs:
            among = partners if further.over == "pairs" else None
            inputs[further.over] = _features(model, stream, features, among)
        given = inputs[further.over]
        rows = len(stream.texts.clean[0])
        # Where other processes have all the rows, a mean over none would be no number.
        found[name] = _value(further, given) if rows or further.over == "pairs" else given.second.sum()
        if further.over == "rows" and partners is not None:
            count = torch.tensor(rows, device=given.second.device)
            found[name] = found[name] * partners.weights({("", name): count})["", name].to(found[name].dtype)
    return found


def _features(
    model: X2VLM, stream: StepPlan, features: VisionFeatures | None, partners: RankExchange | None
) -> StreamFeatures:
    rows, texts = stream.rows, stream.texts.clean
    assert not isinstance(rows, TextRows)  # the recipe was refused
    if isinstance(rows, PairedRows):
        assert stream.view is not None
        first, second = model.project_images(stream.view.summary), model.project_texts(texts[0])
        masks, temperature = [rows.texts.mask], model.temperature
    else:
        first, second = map(model.project_texts, texts)
        masks, temperature = [rows.first.mask, rows.second.mask], model.text_temperature
    group = rows.group
    if partners is not None and rows.whole is not None:
        first, second = partners.of_all(rows.whole, first, second)
        group = rows.whole.group
    found = StreamFeatures(first, second, group, temperature, list(map(EncodedTexts, texts, masks)))
    if not isinstance(rows, PairedRows) or stream.view is None:
        return found
    return found._replace(
        summary=stream.view.summary, region_mask=stream.view.mask, images=rows.images, vision=features
    )


def _value(further: StreamObjective, features: StreamFeatures) -> Tensor:
    device = features.second.device
    try:
        with torch.autocast(device.type, enabled=False):
            value = further.loss(features)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a stranger's formula, which is to be named
        raise PluginError(f"{further.key} failed: {type(error).__name__}: {error}") from error
    if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
        what = (
            f"[{', '.join(map(str, value.shape))}] {value.dtype}"
            if isinstance(value, Tensor)
            else type(value)
        )
        raise PluginError(f"{further.key}: an objective gives a scalar of floating point, found {what}")
    return value
