"""Compute a step in parts with the losses and gradients of the whole batch. Imports torch.

Contrastive losses compare every row with every other, so losses of the parts do not add up to those of the batch.
Gradient caching (`gradient_cache.py`) solves this:

1. The encoders run part by part without a graph; their outputs for the whole batch are kept as leaves.
2. The contrastive losses and the hard negatives are computed on these leaves, over the whole batch.
3. The fusion pass runs part by part with a graph, on the leaves of all rows, so that a negative may lie in any part.
   A part's loss is weighted by its share of the rows or tokens that the loss averages over.
4. The encoders are recomputed part by part with a graph, and the leaves' gradients go through it.

Memory holds the activations of one part, and one output and gradient per encoder for the whole batch. The gradient is
that of the step in one pass; dropout masks are equal in both encoder runs. The exception are modules with batch
statistics, which see one part at a time (`batch_statistics` lists them).

Of several ranks each computes its share of the batch in parts; features and negatives of other ranks travel in step 2,
and before and after step 3. Whole copies of a model (DDP) average the gradients during the last recomputed part. Shards
(FSDP) are gathered, and their gradients reduced, in every part; that needs equally many parts on all ranks, so some are
empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from x2kit.data.pipeline.batch import Batch, PairedRows, TaskRows
from x2kit.errors import X2KitError
from x2kit.model import X2VLM
from x2kit.plugin import VisionFeatures, gather_rows
from x2kit.plugin.tasks import Texts
from x2kit.training.step.distinct_rows import distinct
from x2kit.training.step.encoder_passes import StreamTexts, by_stream, encode_pieces, text_pieces, vision_pass
from x2kit.training.step.fusion_pass import FusionPass
from x2kit.training.step.gradient_cache import CachedForward, ForwardContext, Outputs
from x2kit.training.step.hard_negatives import RemoteRows
from x2kit.training.step.losses import add_rows, contrastive_losses, fused_losses
from x2kit.training.step.metrics import StepMetrics
from x2kit.training.step.objectives import Objectives, objective_losses
from x2kit.training.step.plan import (
    Active,
    ImageContext,
    Losses,
    Negatives,
    StreamPlan,
    image_context,
    needs_masked,
)
from x2kit.training.step.rank_exchange import RankExchange
from x2kit.training.step.tasks import StreamTasks, with_chosen_images

Call = Callable[[Callable[[X2VLM], Any]], Any]
"""Calls a function with the model; the function returns all tensors with a graph."""

NO_ROWS = [slice(0, 0)]
"""The only part of a stream whose rows are all on other ranks."""


def accumulate(
    model: X2VLM,
    batch: Batch,
    active: Active,
    parts: int,
    weight: Callable[[str, str], float],
    *,
    forward_context: ForwardContext = nullcontext,
    backward: Callable[[Tensor], None] = Tensor.backward,
    negatives: Mapping[str, Negatives] | None = None,
    metrics: StepMetrics | None = None,
    exchange: RankExchange | None = None,
    objectives: Objectives | None = None,
    tasks: StreamTasks | None = None,
    call: Call | None = None,
    last_backward: Callable[[Sequence[Tensor]], None] | None = None,
) -> Losses:
    """Compute all losses of a step in parts, and add their gradients to the parameters'.

    Args:
        model: in training mode, on the batch's device.
        batch: the whole batch of this rank.
        active: losses that are on.
        parts: a stream with fewer rows has fewer parts, unless `exchange.equal_calls`.
        weight: of a stream's loss in the total.
        forward_context: of every forward pass, such as autocast.
        backward: of a scalar; if it scales the scalar, all gradients are scaled.
        negatives: as in `step_losses`.
        metrics: as in `step_losses`.
        exchange: as in `step_losses`; the caller averages the gradients over the ranks.
        objectives: as in `step_losses`.
        tasks: as in `step_losses`.
        call: calls all functions that use the model's parameters; by default directly.
        last_backward: called with the outputs that the last backward pass starts from, before it; not called if no
            encoder of images learns.
    Returns: scalars without a graph, by stream and loss, unweighted.
    """
    step = _Step(
        model,
        batch,
        active,
        parts,
        weight,
        forward_context,
        backward,
        metrics,
        exchange,
        objectives or {},
        tasks or {},
        call or (lambda function: function(model)),
        last_backward,
    )
    return step.run(negatives or {})


def batch_statistics(model: nn.Module) -> list[str]:
    """List the modules that compute statistics over a batch in training."""
    return [name for name, module in model.named_modules() if _has_statistics(module)]


def describe_accumulation(model: nn.Module, parts: int) -> str:
    """Describe whether accumulation gives the gradients of the whole batch."""
    message = f"training.accumulation: each step in {parts} parts"
    names = batch_statistics(model)
    if not names:
        return f"{message}, with the gradients of the whole batch"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (
        f"{message}; the gradients differ from those of the whole batch, as batch statistics cover one part at a time "
        f"in {', '.join(names[:3])}{more}"
    )


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training


def slices(count: int, parts: int) -> list[slice]:
    """Cut rows into at most `parts` slices, none empty, whose sizes differ by one at most."""
    ends = [0]
    for part in range(parts):
        ends.append(ends[-1] + count // parts + (part < count % parts))
    return [slice(start, end) for start, end in pairwise(ends) if end > start]


@dataclass
class _Step:
    """One step; see `accumulate` for the fields."""

    model: X2VLM
    batch: Batch
    active: Active
    parts: int
    weight: Callable[[str, str], float]
    forward_context: ForwardContext
    backward: Callable[[Tensor], None]
    metrics: StepMetrics | None
    exchange: RankExchange | None
    objectives: Objectives
    tasks: StreamTasks
    call: Call
    last_backward: Callable[[Sequence[Tensor]], None] | None

    def run(self, negatives: Mapping[str, Negatives]) -> Losses:
        sees = "vision" not in self.model.frozen or bool(self.batch.videos)  # frame positions may be trained
        vision = self._cached(self._vision_chunks(), sees)
        features = self.batch.features
        if vision.outputs:
            summary, patches = vision.outputs["summary"], vision.outputs["patches"]
            features = VisionFeatures(summary, patches, self.model.vision.grid)
        pieces = text_pieces(self.batch.streams, needs_masked(self.batch.streams, self.active))
        texts = self._cached(self._text_chunks(pieces), "text" not in self.model.frozen)
        images = self._cached(self._image_chunks(features), sees)
        encoded = by_stream(self.batch.streams, pieces, texts.outputs)
        plans = {
            name: self._plan(name, encoded[name], _image(images.outputs, name), features)
            for name in self.batch.streams
        }
        losses, plans = self._contrastive(plans, features, negatives)
        remote = None
        if self.exchange is not None:
            with self.forward_context():
                remote = RemoteRows(self.exchange, plans, features, self.metrics)
            plans, features = remote.plans, remote.features
        weights = self._start_fused(plans, losses)
        for part in range(self.parts):
            self._fuse(part, plans, features, losses, weights)
        if remote is not None:
            remote.backward()
        with _frozen_statistics(self.model):
            images.backward()
            texts.backward()
            vision.backward(self.last_backward)
        return losses

    def _cut(self, count: int) -> list[slice]:
        """Cut rows into parts: exactly `parts` if every rank must call the model equally often."""
        cut = slices(count, self.parts)
        return cut + [slice(count, count)] * (self.parts - len(cut)) if self._equal_calls else cut

    @property
    def _equal_calls(self) -> bool:
        return self.exchange is not None and self.exchange.equal_calls

    def _plan(
        self, name: str, texts: StreamTexts, image: ImageContext | None, features: VisionFeatures | None
    ) -> StreamPlan:
        task = self.tasks.get(name)
        with self.forward_context():
            rows = self.call(
                lambda model: with_chosen_images(model, name, task, self.batch.streams[name], features)
            )
        return StreamPlan(rows, self.active.get(name, ()), texts, image, task=task)

    def _cached(self, chunks: Sequence[Callable[[], Outputs]], learned: bool) -> CachedForward:
        def called(chunk: Callable[[], Outputs]) -> Callable[[], Outputs]:
            return lambda: self.call(lambda model: chunk())

        return CachedForward(self.forward_context, self.model.device, list(map(called, chunks)), learned)

    def _vision_chunks(self) -> Sequence[Callable[[], Outputs]]:
        images, videos = self.batch.images, self.batch.videos
        if images is None:
            return []
        still = len(images) - sum(videos)
        starts = [still + sum(videos[:number]) for number in range(len(videos) + 1)]

        def encode(rows: slice, videos: tuple[int, ...] = ()) -> Outputs:
            if rows.start == rows.stop:  # an encoder may refuse an empty batch
                features = vision_pass(self.model, images[:1])
                return {"summary": features.summary[:0], "patches": features.patches[:0]}
            features = vision_pass(self.model, images[rows], videos)
            return {"summary": features.summary, "patches": features.patches}

        of_videos = [] if self.model.frames is None else self._cut(len(videos))
        return [partial(encode, rows) for rows in self._cut(still)] + [
            partial(encode, slice(starts[part.start], starts[part.stop]), videos[part]) for part in of_videos
        ]

    def _text_chunks(self, pieces: Mapping[tuple[str, str], Texts]) -> list[Callable[[], Outputs]]:
        parts: list[dict[tuple[str, str], Texts]] = [{} for _ in range(self.parts)]
        for key, texts in pieces.items():
            for part, rows in zip(parts, self._cut(len(texts.ids)) or NO_ROWS, strict=False):
                part[key] = texts.select(rows)
        return [partial(encode_pieces, self.model, part, self._equal_calls) for part in parts if part]

    def _image_chunks(self, features: VisionFeatures | None) -> list[Callable[[], Outputs]]:
        def pool(name: str, rows: PairedRows) -> Outputs:
            image = image_context(self.model, name, rows, features)
            assert image is not None
            outputs = {(name, "image_summary"): image.image_summary}
            if image.mask is None:
                return outputs
            return outputs | {(name, "summary"): image.summary, (name, "mask"): image.mask}

        return [
            partial(pool, name, _rows_of_part(rows, part))
            for name, rows in self.batch.streams.items()
            if isinstance(rows, PairedRows)
            for part in self._cut(len(rows.images)) or NO_ROWS
        ]

    def _contrastive(
        self,
        plans: Mapping[str, StreamPlan],
        features: VisionFeatures | None,
        negatives: Mapping[str, Negatives],
    ) -> tuple[Losses, dict[str, StreamPlan]]:
        """Compute contrastive losses and objectives with their gradients, and draw the hard negatives."""
        drawn: dict[str, StreamPlan] = {}

        def compute(model: X2VLM) -> Losses:
            losses, plans_drawn = contrastive_losses(model, plans, negatives, self.exchange)
            drawn.update(plans_drawn)
            for name, plan in plans.items():
                objectives = self.objectives.get(name, {})
                losses[name] |= objective_losses(model, plan, features, objectives, self.exchange)
            return losses

        with self.forward_context():
            losses: Losses = self.call(compute)
        self._differentiate(losses)
        return losses, drawn

    def _start_fused(
        self, plans: Mapping[str, StreamPlan], losses: Losses
    ) -> Mapping[tuple[str, str], Tensor]:
        """Set the losses of the fusion pass to 0. Returns: this rank's weight of each."""
        counts: dict[tuple[str, str], Tensor] = {
            (name, loss): count.sum()
            for name, plan in plans.items()
            for loss in plan.on
            if (count := plan.counts(loss)) is not None
        }
        for name, loss in counts:
            losses[name][loss] = torch.zeros((), device=self.model.device)
        return {} if self.exchange is None else self.exchange.loss_weights(counts)

    def _fuse(
        self,
        number: int,
        plans: Mapping[str, StreamPlan],
        features: VisionFeatures | None,
        losses: Losses,
        weights: Mapping[tuple[str, str], Tensor],
    ) -> None:
        """Run the fusion pass of one part, with gradients, and add its losses to `losses`."""
        cuts = {name: self._cut(plan.fused) for name, plan in plans.items()}
        rows = {name: cut[number] for name, cut in cuts.items() if number < len(cut)}
        plans, features = images_of_parts(plans, rows, features)

        def compute(model: X2VLM) -> Losses:
            fusion = FusionPass(self._equal_calls)
            of_part: Losses = {}
            for name, part in rows.items():
                add_rows(fusion, name, plans[name], features, part)
            fused = fusion.run(model, features)
            for name, part in rows.items():
                means = fused_losses(model, name, plans[name], fused, features, part, self.metrics)
                if part.start == part.stop:  # a mean of no rows may be NaN
                    means = {loss: mean.nan_to_num() for loss, mean in means.items()}
                of_part[name] = {
                    loss: mean * _share(plans[name], loss, part) * weights.get((name, loss), 1)
                    for loss, mean in means.items()
                }
            return of_part

        with self.forward_context():
            of_part: Losses = self.call(compute)
        self._differentiate(of_part)
        for name, on in of_part.items():
            for loss, value in on.items():
                losses[name][loss] = losses[name][loss] + value

    def _differentiate(self, losses: Losses) -> None:
        """Backpropagate the weighted sum, and detach the losses."""
        terms = [value * self.weight(name, loss) for name, on in losses.items() for loss, value in on.items()]
        total = torch.stack(terms).sum() if terms else None
        if total is not None and total.requires_grad:  # frozen parts may leave no graph
            self.backward(total)
        for on in losses.values():
            on.update({loss: value.detach() for loss, value in on.items()})


def _image(outputs: Outputs, name: str) -> ImageContext | None:
    whole = outputs.get((name, "image_summary"))
    if whole is None:
        return None
    return ImageContext(outputs.get((name, "summary"), whole), outputs.get((name, "mask")), whole)


def _rows_of_part(rows: PairedRows, part: slice) -> PairedRows:
    """Select the images and regions of a part; the texts stay whole."""
    regions = rows.regions
    if regions is not None:
        mask = None if regions.mask is None else regions.mask[part]
        regions = regions._replace(bbox=regions.bbox[part], whole=regions.whole[part], mask=mask)
    return rows._replace(images=rows.images[part], regions=regions)


def images_of_parts(
    plans: Mapping[str, StreamPlan], parts: Mapping[str, slice], features: VisionFeatures | None
) -> tuple[dict[str, StreamPlan], VisionFeatures | None]:
    """Restrict the images to those that parts of the fused rows attend to, with their numbers in the rows.

    Numbers of other rows become meaningless.

    Args:
        plans: by stream.
        parts: of the fused rows, by stream; streams without one take no part.
        features: of the images of all rows.
    """
    needed = [images for name, part in parts.items() for images in _images_of_part(plans[name], part)]
    found = None if features is None or not needed else distinct(torch.cat(needed), len(features.patches))
    if features is None or found is None or len(found.rows) == len(features.patches):
        return dict(plans), features
    restricted = dict(plans)
    for name in parts:
        rows = plans[name].rows
        if isinstance(rows, PairedRows | TaskRows):
            images = found.places[rows.images]
            restricted[name] = plans[name]._replace(rows=rows._replace(images=images))
    summary, patches = (gather_rows(each, found.rows) for each in (features.summary, features.patches))
    return restricted, VisionFeatures(summary, patches, features.grid)


def _images_of_part(plan: StreamPlan, part: slice) -> list[Tensor]:
    """List the images of a part of the fused rows and of its negatives, [n] each."""
    if not isinstance(plan.rows, PairedRows | TaskRows):
        return []
    images = plan.rows.images
    drawn = [] if plan.negatives is None else [images[plan.negatives.image[part]]]
    return [images[part].flatten(), *drawn]


def _share(plan: StreamPlan, loss: str, part: slice) -> Tensor:
    """Return the share of a loss's rows, tokens or boxes that lies in a part of the fused rows, in [0, 1]."""
    counts = plan.counts(loss)
    if counts is None:
        raise X2KitError(
            f"training.accumulation: {loss} has no count of rows, so it cannot be split in parts"
        )
    return counts[part].sum() / counts.sum().clamp_min(1)


@contextmanager
def _frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Keep running statistics unchanged: recomputation must not count a part a second time."""
    running = [m for m in model.modules() if _has_statistics(m) and m.track_running_stats]
    for module in running:
        module.track_running_stats = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in running:
            module.track_running_stats = True  # type: ignore[assignment]
