"""Compute all losses of a step in one vision, text and fusion pass. Imports torch.

Rows of all streams share the passes, and texts share rows or buckets by length, so that a stream of short region
texts is not padded to the captions of another (`x2kit/model/packing.py`).

B rows of a stream, L text tokens, N patches, D width, M distinct images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from x2kit.data.pipeline.batch import Batch, PairedRows, ParallelRows, TaskRows, TextRows, Whole
from x2kit.model import X2VLM
from x2kit.objectives import bbox_loss, contrastive_logits, giou_loss, itc_loss, itm_loss, mlm_loss
from x2kit.plugin import Context, VisionFeatures, gather_rows
from x2kit.training.step.distinct_rows import distinct
from x2kit.training.step.encoder_passes import text_pass, vision_pass
from x2kit.training.step.fusion_pass import FusionPass
from x2kit.training.step.hard_negatives import draw, draw_over_ranks, exchange_negatives
from x2kit.training.step.metrics import StepMetrics
from x2kit.training.step.objectives import Objectives, objective_losses
from x2kit.training.step.plan import (
    CONTRASTIVE,
    MASKED,
    MATCHING,
    Active,
    ImageContext,
    Losses,
    Negatives,
    StreamPlan,
    image_context,
    needs_masked,
)
from x2kit.training.step.rank_exchange import RankExchange
from x2kit.training.step.tasks import StreamTasks, add_task_rows, task_losses, with_chosen_images

ALL = slice(None)


def step_losses(
    model: X2VLM,
    batch: Batch,
    active: Active,
    negatives: Mapping[str, Negatives] | None = None,
    exchange: RankExchange | None = None,
    metrics: StepMetrics | None = None,
    objectives: Objectives | None = None,
    tasks: StreamTasks | None = None,
) -> Losses:
    """Compute all losses of a step.

    Args:
        model: in training mode, on the batch's device.
        batch: see `x2kit.data.pipeline.batch`.
        active: losses that are on.
        negatives: hard negatives by stream; by default they are drawn.
        exchange: set where the batch is one rank's share. The mean over ranks of each loss, and of its gradient, is
            that of the whole batch.
        metrics: records the answers of the matching head.
        objectives: those that are on, by stream and name.
        tasks: those that compute their own losses, by stream.
    Returns: scalars, by stream and loss or objective, unweighted.
    """
    features = batch.features  # cached ones take the place of images
    if batch.images is not None:
        features = vision_pass(model, batch.images, batch.videos)
    equal = exchange is not None and exchange.equal_calls
    encoded = text_pass(model, batch.streams, needs_masked(batch.streams, active), equal)
    plans: dict[str, StreamPlan] = {}
    for name, rows in batch.streams.items():
        image = image_context(model, name, rows, features)
        task = (tasks or {}).get(name)
        rows = with_chosen_images(model, name, task, rows, features)
        plans[name] = StreamPlan(rows, active.get(name, ()), encoded[name], image, task=task)
    losses, plans = contrastive_losses(model, plans, negatives, exchange)
    for name, plan in plans.items():
        losses[name] |= objective_losses(model, plan, features, (objectives or {}).get(name, {}), exchange)
    if exchange is not None:
        plans, features = exchange_negatives(exchange, plans, features, metrics)
    fusion = FusionPass(equal)
    for name, plan in plans.items():
        add_rows(fusion, name, plan, features)
    fused = fusion.run(model, features)
    for name, plan in plans.items():
        losses[name] |= fused_losses(model, name, plan, fused, features, metrics=metrics)
    return losses if exchange is None else _weighted(exchange, plans, losses)


def contrastive_losses(
    model: X2VLM,
    plans: Mapping[str, StreamPlan],
    negatives: Mapping[str, Negatives] | None = None,
    exchange: RankExchange | None = None,
) -> tuple[Losses, dict[str, StreamPlan]]:
    """Compute the contrastive losses and draw hard negatives, each if it is needed.

    In parallel text the first text takes the place of the image (CCLM, arXiv:2206.00621, section 3).

    Args:
        plans: by stream.
        negatives: by stream, instead of drawn ones.
        exchange: see `step_losses`.
    Returns: losses by stream and name, and the plans with their negatives.
    """
    projected = {
        name: found for name, plan in plans.items() if (found := _projected(model, plan)) is not None
    }
    wholes: dict[str, Whole] = {}
    compared = {name: features for name, (features, _) in projected.items()}
    if exchange is not None:
        wholes = {name: whole for name in projected if (whole := plans[name].whole) is not None}
        gathered = exchange.gather_features(list(wholes.values()), [compared[name] for name in wholes])
        compared |= dict(zip(wholes, gathered, strict=True))
    losses: Losses = {name: {} for name in plans}
    drawn = dict(plans)
    for name, (features, temperature) in projected.items():
        rows, on = plans[name].rows, plans[name].on
        assert isinstance(rows, PairedRows | ParallelRows)
        group = wholes[name].group if name in wholes else rows.group
        logits = contrastive_logits(*compared[name], temperature)
        losses[name] = {loss: itc_loss(logits, group) for loss in on if loss in CONTRASTIVE}
        if not any(loss in MATCHING for loss in on):
            continue
        chosen = (negatives or {}).get(name)
        if exchange is not None and name in wholes:
            chosen = draw_over_ranks(exchange, wholes[name], plans[name].fused, logits, features, temperature)
        drawn[name] = plans[name]._replace(negatives=chosen or draw(logits, group, rows.fused))
    return losses, drawn


def _projected(model: X2VLM, plan: StreamPlan) -> tuple[tuple[Tensor, Tensor], Tensor] | None:
    """Project the images (or first texts) and texts of a stream; None if no loss needs their similarities.

    Returns: two tensors [B, E], and the temperature.
    """
    if isinstance(plan.rows, TextRows | TaskRows):
        return None
    if not any(loss in CONTRASTIVE or loss in MATCHING for loss in plan.on):
        return None
    if plan.image is None:
        first, second = map(model.project_texts, plan.texts.clean)
        return (first, second), model.text_temperature
    images = model.project_images(plan.image.summary)
    return (images, model.project_texts(plan.texts.clean[0])), model.temperature


def add_rows(
    fusion: FusionPass,
    name: str,
    plan: StreamPlan,
    features: VisionFeatures | None = None,
    part: slice = ALL,
) -> None:
    """Add the rows of a stream's other losses to the fusion pass.

    Args:
        features: of the step's images, for the rows of a task.
        part: of the fused rows.
    """
    rows, texts = plan.rows, plan.texts
    if isinstance(rows, TaskRows):
        if plan.task is not None and plan.on:
            add_task_rows(fusion, name, plan.task, rows, texts.clean, features, part)
    elif isinstance(rows, TextRows):
        if texts.masked is not None and texts.masked_mask is not None:
            lengths = _known_lengths(rows.texts.lengths, part)
            fusion.add((name, "mlm"), texts.masked[part], texts.masked_mask[part], None, lengths=lengths)
    elif isinstance(rows, ParallelRows):
        _add_parallel(fusion, name, rows, plan, part)
    elif plan.image is not None:
        _add_paired(fusion, name, rows, plan, plan.image, part)


def _add_paired(
    fusion: FusionPass, name: str, rows: PairedRows, plan: StreamPlan, image: ImageContext, part: slice
) -> None:
    on, texts = plan.on, plan.texts
    (tokens,) = texts.clean
    mask, lengths = rows.texts.mask, _known_lengths(rows.texts.lengths, part)

    def context(which: Tensor) -> Context:
        """The image or region of these rows; the pass adds the patches."""
        patch_mask = None if image.mask is None else image.mask[which]
        lead = gather_rows(image.summary, which)[:, None]
        return Context(image.image_summary[:0], rows.images[which], patch_mask, lead)

    if plan.negatives is not None:
        images, text = _matching_rows(plan.negatives, part)
        pairs = gather_rows(tokens, text), mask[text]
        fusion.add((name, "itm"), *pairs, context(images), True, _matching_lengths(lengths, plan, part))
    if "bbox" in on or "giou" in on:
        # The box is to be predicted, so these rows attend to the whole image (X²-VLM, section 3.2).
        some = slice(*part.indices(len(tokens[: rows.fused])))
        whole = Context(image.image_summary[:0], rows.images[some], None, image.image_summary[some, None])
        fusion.add((name, "bbox"), tokens[some], mask[some], whole, True, lengths)
    if "mlm" in on and texts.masked is not None and texts.masked_mask is not None:
        own = context(_row_numbers(texts.masked, part))
        fusion.add((name, "mlm"), texts.masked[part], texts.masked_mask[part], own, lengths=lengths)


def _add_parallel(fusion: FusionPass, name: str, rows: ParallelRows, plan: StreamPlan, part: slice) -> None:
    texts = plan.texts
    first, second = texts.clean
    if plan.negatives is not None:
        of_first, text = _matching_rows(plan.negatives, part)
        context = _text_context(first, rows.first.mask, of_first, plan.negatives.image[part])
        pairs = gather_rows(second, text), rows.second.mask[text]
        lengths = _matching_lengths(_known_lengths(rows.second.lengths, part), plan, part)
        fusion.add((name, "ttm"), *pairs, context, True, lengths)
    if "tlm" in plan.on and texts.masked is not None and texts.masked_mask is not None:
        # The masked first text attends to the clean second one, as in the official code.
        own = _row_numbers(texts.masked, part)
        some = slice(*part.indices(len(texts.masked)))
        context = Context(second[some], own - some.start, rows.second.mask[some], None)
        lengths = _known_lengths(rows.first.lengths, part)
        fusion.add((name, "tlm"), texts.masked[part], texts.masked_mask[part], context, lengths=lengths)


def _text_context(tokens: Tensor, mask: Tensor, rows: Tensor, negatives: Tensor) -> Context:
    """Build the context of matching rows [3B] of texts, of which at most 2B differ: own ones and `negatives` [B]."""
    own = rows[: len(negatives)]
    found = distinct(torch.cat([own, negatives]), len(tokens))
    if len(found.rows) == len(tokens):
        return Context(tokens, rows, mask[rows], None)
    return Context(gather_rows(tokens, found.rows), found.places[rows], mask[rows], None)


def _matching_rows(negatives: Negatives, part: slice) -> tuple[Tensor, Tensor]:
    """Rows of the image (or first text) and of the text of each matching pair, in thirds as in `itm_loss`."""
    own = _row_numbers(negatives.text, part)
    return torch.cat([own, negatives.image[part], own]), torch.cat([own, own, negatives.text[part]])


def _known_lengths(lengths: Sequence[int] | None, part: slice) -> Sequence[int] | None:
    return None if lengths is None else lengths[part]


def _matching_lengths(lengths: Sequence[int] | None, plan: StreamPlan, part: slice) -> Sequence[int] | None:
    """Lengths of the texts of matching pairs, without those of the text negatives, which the device draws."""
    if lengths is None or plan.negatives is None:
        return None
    return [*lengths[: len(plan.negatives.text[part])]] * 2


def _row_numbers(rows: Tensor, part: slice) -> Tensor:
    return torch.arange(*part.indices(len(rows)), device=rows.device)


def fused_losses(
    model: X2VLM,
    name: str,
    plan: StreamPlan,
    fused: Mapping[tuple[str, str], Tensor],
    features: VisionFeatures | None = None,
    part: slice = ALL,
    metrics: StepMetrics | None = None,
) -> dict[str, Tensor]:
    """Compute the losses of the rows that `add_rows` added with the same `features` and `part`."""
    rows, losses = plan.rows, dict[str, Tensor]()
    if isinstance(rows, TaskRows):
        if plan.task is None:
            return {}
        return task_losses(model, name, plan.task, rows, plan.on, fused, features, part)
    for matching in MATCHING:
        if (name, matching) in fused:
            logits, valid = model.itm_logits(fused[name, matching]), None
            if plan.negatives is not None and plan.negatives.valid is not None:
                valid = plan.negatives.valid.view(3, -1)[:, part].flatten()
            losses[matching] = itm_loss(logits, valid)
            if metrics is not None:
                metrics.matching(f"{name}.{matching}", logits, valid)
    if (name, "bbox") in fused and isinstance(rows, PairedRows) and rows.regions is not None:
        bbox = model.predict_bbox(fused[name, "bbox"])
        target, counts = rows.regions.bbox[: rows.fused][part], ~rows.regions.whole[: rows.fused][part]
        if "bbox" in plan.on:
            losses["bbox"] = bbox_loss(bbox, target, counts)
        if "giou" in plan.on:
            losses["giou"] = giou_loss(bbox, target, counts)
    masked = plan.masked
    for masked_loss in MASKED:
        if (name, masked_loss) in fused and masked is not None:
            logits = model.mlm_head(fused[name, masked_loss], masked.positions[part])
            losses[masked_loss] = mlm_loss(logits, masked.labels[part])
    return losses


def _weighted(exchange: RankExchange, plans: Mapping[str, StreamPlan], losses: Losses) -> Losses:
    """Weight each rank's mean by its share of the rows; contrastive losses are those of the whole batch already."""
    counts = {
        (name, loss): count.sum()
        for name, of_stream in losses.items()
        for loss in of_stream
        if (count := plans[name].counts(loss)) is not None
    }
    weights = exchange.loss_weights(counts)
    return {
        name: {
            loss: value * weights[name, loss].to(value.dtype) if (name, loss) in weights else value
            for loss, value in of_stream.items()
        }
        for name, of_stream in losses.items()
    }
