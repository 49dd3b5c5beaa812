"""A step in parts: the losses and gradients of the whole batch with the activations of one part. Imports torch.

Contrastive losses compare every row with every other, so the parts' own losses do not add up to the batch's. As in
GradCache (Gao et al. 2021, arXiv:2101.06983) the encoders therefore run twice: once for their values alone, part by
part, and, when the gradient of these values is known, once more with a graph, for the way back. Between the two

- the contrastive losses and the hard negatives are those of the whole batch;
- the fusion pass runs part by part, with its graph, on the values of all rows, so that a part's negatives may lie in
  any other part. A part's losses count by its share of the rows or tokens that their means are over.

What is drawn (dropout) is drawn once: the second run puts the random state of the first back. So the gradient is
exactly that of one batch, and, where nothing is drawn, equal to that of the step in one. The exception are modules
that compute statistics over a batch: they see a part at a time; `batch_statistics` finds them.

What is kept of the whole batch is what the encoders gave and its gradient: one layer's output, not all layers'.

Where several processes share the batch (DDP), each computes its share in parts. What they do together, they do between
the encoders' two runs: the contrastive losses of the whole batch, and the rows that are negatives elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from x2kit.data.pipeline.batch import Batch, PairedRows, Texts
from x2kit.distributed.processes import Processes
from x2kit.errors import X2KitError
from x2kit.model import X2VLM
from x2kit.plugin import VisionFeatures
from x2kit.training.config import TrainingConfig
from x2kit.training.step.encoder_passes import by_stream, encode_pieces, text_pieces, vision_pass
from x2kit.training.step.fusion_pass import FusionPass
from x2kit.training.step.gradient_cache import Around, Found, Recomputed, RemoteRows
from x2kit.training.step.losses import (
    Active,
    Losses,
    Negatives,
    StepPlan,
    View,
    add_rows,
    contrast,
    fused_losses,
    needs_masked,
    view_of,
)
from x2kit.training.step.metrics import StepMetrics
from x2kit.training.step.objectives import Objectives, objective_losses
from x2kit.training.step.remote_rows import RankExchange

NONE = [slice(0, 0)]
"""The one part of a stream of which another process has the rows."""


def accumulate(
    model: X2VLM,
    batch: Batch,
    active: Active,
    parts: int,
    weight: Callable[[str, str], float],
    *,
    around: Around = nullcontext,
    backward: Callable[[Tensor], None] = Tensor.backward,
    negatives: Mapping[str, Negatives] | None = None,
    measures: StepMetrics | None = None,
    partners: RankExchange | None = None,
    objectives: Objectives | None = None,
) -> Losses:
    """All losses of a step, and their gradients added to the parameters'.

    Args:
        model: in training mode, on the batch's device.
        batch: the whole one.
        active: the losses that are on.
        parts: how many; a stream of fewer rows has fewer.
        weight: of a stream's loss in the total.
        around: what a forward pass runs in, such as autocast.
        backward: of a scalar; one that scales it first scales all gradients.
        negatives: as of `step_losses`.
        measures: as of `step_losses`.
        partners: as of `step_losses`; the gradients are still to be averaged over the processes.
        objectives: as of `step_losses`.
    Returns: scalars without graph, by stream and loss, unweighted.
    """
    step = _Step(model, batch, active, parts, weight, around, backward, measures, partners, objectives or {})
    return step.run(negatives or {})


def require_whole_model(config: TrainingConfig, processes: Processes) -> None:
    """Raises X2KitError if processes that have shards of a model alone are to compute their steps in parts."""
    if config.accumulation > 1 and processes.several and config.distribution == "fsdp":
        raise X2KitError(
            f"training.accumulation: {config.accumulation} parts with training.distribution fsdp: processes that need "
            "each other's shards for every part must have equally many; set accumulation to 1 (each process holds its "
            "share of the batch alone), or distribution to ddp, or use training.activation_checkpointing"
        )


def batch_statistics(model: nn.Module) -> list[str]:
    """Names of the modules that compute statistics over a batch in training."""
    return [name for name, module in model.named_modules() if _has_statistics(module)]


def describe_accumulation(model: nn.Module, parts: int) -> str:
    """What accumulation promises for a model, for people."""
    said = f"training.accumulation: each step in {parts} parts"
    found = batch_statistics(model)
    if not found:
        return f"{said}, with the gradients of the whole batch"
    return (
        f"{said}; the gradients are not those of the whole batch, as {len(found)} modules with batch statistics see "
        f"one part at a time ({', '.join(found[:3])}{', …' if len(found) > 3 else ''})"
    )


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training


def slices(count: int, parts: int) -> list[slice]:
    """At most `parts` runs of rows, none empty, that differ by one row at most."""
    sizes = [count // parts + (part < count % parts) for part in range(parts)]
    ends = [sum(sizes[: part + 1]) for part in range(parts)]
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True) if size]


class _Step:
    """One step; see `accumulate`."""

    def __init__(
        self,
        model: X2VLM,
        batch: Batch,
        active: Active,
        parts: int,
        weight: Callable[[str, str], float],
        around: Around,
        backward: Callable[[Tensor], None],
        measures: StepMetrics | None,
        partners: RankExchange | None,
        objectives: Objectives,
    ) -> None:
        self._objectives = objectives
        self._measures, self._partners = measures, partners
        self._model, self._batch, self._active, self._parts = model, batch, active, parts
        self._weight, self._around, self._backward = weight, around, backward

    def run(self, negatives: Mapping[str, Negatives]) -> Losses:
        vision = self._twice(self._vision())
        features = self._features(vision.values)
        texts = self._twice(self._texts())
        views = self._twice(self._views(features))
        losses, planned = self._contrast(texts.values, views.values, features, negatives)
        borrowed = None
        if self._partners is not None:
            borrowed = RemoteRows(self._partners, planned, features)
            planned, features = borrowed.planned, borrowed.features
        weights = self._begin(planned, losses)
        for part in range(self._parts):
            self._fuse(part, planned, features, losses, weights)
        if borrowed is not None:
            borrowed.backward()
        with _statistics_at_rest(self._model):
            views.backward()
            texts.backward()
            vision.backward()
        return losses

    def _twice(self, runs: Sequence[Callable[[], Found]]) -> Recomputed:
        return Recomputed(self._around, self._model.device, runs)

    def _vision(self) -> Sequence[Callable[[], Found]]:
        images, videos = self._batch.images, self._batch.videos
        if images is None:
            return []
        all_images = len(images) - sum(videos)
        starts = [all_images + sum(videos[:number]) for number in range(len(videos) + 1)]

        def encode(rows: slice, videos: tuple[int, ...] = ()) -> Found:
            features = vision_pass(self._model, images[rows], videos)
            return {"summary": features.summary, "patches": features.patches}

        still = [partial(encode, rows) for rows in slices(all_images, self._parts)]
        moving = [
            partial(encode, slice(starts[part.start], starts[part.stop]), videos[part])
            for part in slices(len(videos), self._parts)
        ]
        return still + moving

    def _features(self, values: Found) -> VisionFeatures | None:
        if not values:
            return None
        return VisionFeatures(values["summary"], values["patches"], self._model.vision.grid)

    def _texts(self) -> list[Callable[[], Found]]:
        pieces = text_pieces(self._batch.streams, needs_masked(self._batch, self._active))
        parts: list[dict[tuple[str, str], Texts]] = [{} for _ in range(self._parts)]
        for key, texts in pieces.items():
            for part, some in zip(parts, slices(len(texts.ids), self._parts) or NONE, strict=False):
                part[key] = Texts(texts.ids[some], texts.mask[some])
        return [partial(encode_pieces, self._model, part) for part in parts if part]

    def _views(self, features: VisionFeatures | None) -> list[Callable[[], Found]]:
        def look(name: str, rows: PairedRows) -> Found:
            view = view_of(self._model, name, rows, features)
            assert view is not None
            if view.mask is None:
                return {(name, "whole"): view.whole}
            return {(name, "whole"): view.whole, (name, "summary"): view.summary, (name, "mask"): view.mask}

        return [
            partial(look, name, _some(rows, part))
            for name, rows in self._batch.streams.items()
            if isinstance(rows, PairedRows)
            for part in slices(len(rows.images), self._parts) or NONE
        ]

    def _contrast(
        self,
        tokens: Found,
        views: Found,
        features: VisionFeatures | None,
        negatives: Mapping[str, Negatives],
    ) -> tuple[Losses, dict[str, StepPlan]]:
        """The losses that compare the rows of the whole batch, with their gradients, and the hard negatives."""
        streams = self._batch.streams
        pieces = text_pieces(streams, needs_masked(self._batch, self._active))
        encoded = by_stream(streams, pieces, tokens)
        losses: Losses = {}
        planned: dict[str, StepPlan] = {}
        with self._around():
            for name, rows in streams.items():
                whole = views.get((name, "whole"))
                view = (
                    whole
                    if whole is None
                    else View(views.get((name, "summary"), whole), views.get((name, "mask")), whole)
                )
                stream = StepPlan(rows, self._active.get(name, ()), encoded[name], view)
                losses[name], planned[name] = contrast(
                    self._model, stream, negatives.get(name), self._partners
                )
                further = self._objectives.get(name, {})
                losses[name] |= objective_losses(self._model, stream, features, further, self._partners)
        self._differentiate(losses)
        return losses, planned

    def _begin(self, planned: Mapping[str, StepPlan], losses: Losses) -> dict[tuple[str, str], Tensor]:
        """The other losses are 0 so far. Returns: what they count by among those of all processes."""
        counts: dict[tuple[str, str], Tensor] = {
            (name, loss): count.sum()
            for name, stream in planned.items()
            for loss in stream.on
            if (count := stream.counts(loss)) is not None
        }
        for name, loss in counts:
            losses[name][loss] = torch.zeros((), device=self._model.device)
        return {} if self._partners is None else self._partners.weights(counts)

    def _fuse(
        self,
        number: int,
        planned: Mapping[str, StepPlan],
        features: VisionFeatures | None,
        losses: Losses,
        weights: Mapping[tuple[str, str], Tensor],
    ) -> None:
        """The other losses of one part, with their gradients; they are added to the losses."""
        fusion = FusionPass(few=True)
        found: Losses = {}
        runs = {name: slices(stream.fused, self._parts) for name, stream in planned.items()}
        some = {name: run[number] for name, run in runs.items() if number < len(run)}
        with self._around():
            for name, part in some.items():
                add_rows(fusion, name, planned[name], part)
            fused = fusion.run(self._model, features)
            for name, part in some.items():
                means = fused_losses(self._model, name, planned[name], fused, part, self._measures)
                found[name] = {
                    loss: mean * _share(planned[name], loss, part) * weights.get((name, loss), 1)
                    for loss, mean in means.items()
                }
        self._differentiate(found)
        for name, on in found.items():
            for loss, value in on.items():
                losses[name][loss] = losses[name][loss] + value

    def _differentiate(self, losses: Losses) -> None:
        """Gradients of the weighted sum; the losses lose their graph."""
        terms = [
            value * self._weight(name, loss) for name, on in losses.items() for loss, value in on.items()
        ]
        if terms:
            self._backward(torch.stack(terms).sum())
        for on in losses.values():
            on.update({loss: value.detach() for loss, value in on.items()})


def _some(rows: PairedRows, part: slice) -> PairedRows:
    """What decides the views of a part of the rows."""
    regions = rows.regions
    if regions is not None:
        mask = None if regions.mask is None else regions.mask[part]
        regions = regions._replace(bbox=regions.bbox[part], whole=regions.whole[part], mask=mask)
    return rows._replace(images=rows.images[part], regions=regions)


def _share(stream: StepPlan, loss: str, part: slice) -> Tensor:
    """How much of what a loss is a mean over lies in a part of the fused rows: scalar in [0, 1]."""
    counts = stream.counts(loss)
    if counts is None:
        raise X2KitError(f"training.accumulation: it is not known what {loss} is a mean over")
    return counts[part].sum() / counts.sum().clamp_min(1)


@contextmanager
def _statistics_at_rest(model: nn.Module) -> Iterator[None]:
    """Running statistics stay as they are: the second run must not count a part again."""
    running = [m for m in model.modules() if _has_statistics(m) and m.track_running_stats]
    for module in running:
        module.track_running_stats = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in running:
            module.track_running_stats = True  # type: ignore[assignment]
