"""One training step on a batch: one vision pass, one text pass, one fusion pass, then the losses. Imports torch.

Rows of all streams share the passes. Texts are grouped by padded length first, so that a stream of short region
texts is not padded to the captions of another: a pass is one call for each length that the batch has.

B rows of a stream, L text tokens, N patches, D width, M distinct images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.data.config import LossName
from x2kit.data.pipeline.batch import Batch, MaskedTexts, PairedRows, ParallelRows, Rows, TextRows
from x2kit.errors import ShapeError
from x2kit.model import X2VLM
from x2kit.objectives import (
    bbox_loss,
    contrastive_logits,
    draw_negatives,
    giou_loss,
    itc_loss,
    itm_loss,
    mlm_loss,
    negative_weights,
)
from x2kit.objectives.masked_language import IGNORED
from x2kit.plugin import Context, VisionFeatures, gather_rows
from x2kit.training.step.encoder_passes import Encoded, text_pass, vision_pass
from x2kit.training.step.fusion_pass import FusionPass
from x2kit.training.step.global_negatives import draw, weighed, with_negatives
from x2kit.training.step.metrics import StepMetrics
from x2kit.training.step.objectives import Objectives, objective_losses
from x2kit.training.step.remote_rows import RankExchange

Active = Mapping[str, Sequence[LossName]]
"""The losses that are on, by stream."""

CONTRASTIVE: tuple[LossName, ...] = ("itc", "ttc")
MATCHING: tuple[LossName, ...] = ("itm", "ttm")
MASKED: tuple[LossName, ...] = ("mlm", "tlm")
BOXES: tuple[LossName, ...] = ("bbox", "giou")


class Negatives(NamedTuple):
    """Hard negatives of a stream: for each text another image, for each image another text, and which count."""

    image: Tensor
    text: Tensor
    valid: Tensor | None = None


class View(NamedTuple):
    """What the rows of a paired stream look at: summary [B, D], patch mask [B, N] bool or None for all."""

    summary: Tensor
    mask: Tensor | None
    whole: Tensor
    """[B, D], the summary of the row's whole image."""


class StepPlan(NamedTuple):
    """A stream between the encoders and the fusion pass.

    Attributes:
        rows: of the stream.
        on: its losses that are on.
        texts: encoded.
        view: what the rows look at; None for texts.
        negatives: None if no matching loss is on.
    """

    rows: Rows
    on: Sequence[LossName]
    texts: Encoded
    view: View | None = None
    negatives: Negatives | None = None

    @property
    def masked(self) -> MaskedTexts | None:
        """The masked texts of the rows."""
        return self.rows.masked_first if isinstance(self.rows, ParallelRows) else self.rows.masked

    @property
    def fused(self) -> int:
        """How many of the rows, the first ones, go through the fusion pass."""
        if isinstance(self.rows, TextRows):
            return len(self.rows.masked.ids)
        return len(self.rows.group[: self.rows.fused])

    def counts(self, loss: str) -> Tensor | None:
        """[fused]: how many pairs, tokens or boxes of each row a loss is the mean over; None for contrastive losses."""
        rows = self.rows
        if loss in MATCHING and self.negatives is not None:
            valid = self.negatives.valid
            return torch.ones_like(self.negatives.text) if valid is None else valid.view(3, -1).sum(0)
        if loss in MASKED and self.masked is not None:
            return (self.masked.labels != IGNORED).sum(1)
        if loss in BOXES and isinstance(rows, PairedRows) and rows.regions is not None:
            return ~rows.regions.whole[: rows.fused]
        return None


Losses = dict[str, dict[str, Tensor]]
"""Scalars, by stream and loss or objective."""

ALL = slice(None)


def step_losses(
    model: X2VLM,
    batch: Batch,
    active: Active,
    negatives: Mapping[str, Negatives] | None = None,
    partners: RankExchange | None = None,
    measures: StepMetrics | None = None,
    objectives: Objectives | None = None,
) -> Losses:
    """All losses of a step.

    Args:
        model: in training mode, on the batch's device.
        batch: see `x2kit.data.pipeline.batch`.
        active: the losses that are on.
        negatives: hard negatives by stream, instead of drawn ones (recorded values in tests).
        partners: the other processes, where the batch is one process's part. The mean over all of them of a loss, and
            of its gradient, is that of the whole batch.
        measures: told what the matching head answered.
        objectives: those that are on, by stream and name.
    Returns: scalars, by stream and loss or objective, unweighted.
    """
    features = None if batch.images is None else vision_pass(model, batch.images, batch.videos)
    encoded = text_pass(model, batch.streams, needs_masked(batch, active))
    fusion = FusionPass()
    losses: Losses = {}
    planned: dict[str, StepPlan] = {}
    for name, rows in batch.streams.items():
        stream = StepPlan(rows, active.get(name, ()), encoded[name], view_of(model, name, rows, features))
        losses[name], planned[name] = contrast(model, stream, (negatives or {}).get(name), partners)
        further = (objectives or {}).get(name, {})
        losses[name] |= objective_losses(model, stream, features, further, partners)
        if partners is not None:
            planned[name], features = with_negatives(partners, planned[name], features)
        add_rows(fusion, name, planned[name])
    fused = fusion.run(model, features)
    for name, stream in planned.items():
        losses[name] |= fused_losses(model, name, stream, fused, measures=measures)
    return losses if partners is None else weighed(partners, planned, losses)


def needs_masked(batch: Batch, active: Active) -> dict[str, bool]:
    """Whether a loss of each stream needs its masked texts."""
    return {name: any(loss in MASKED for loss in active.get(name, ())) for name in batch.streams}


def view_of(model: X2VLM, name: str, rows: Rows, features: VisionFeatures | None) -> View | None:
    """What rows look at; None for rows of texts. Raises ShapeError if there are no images to look at."""
    if not isinstance(rows, PairedRows):
        return None
    if features is None:
        raise ShapeError(f"stream {name} has rows of images, but the batch has no image")
    whole = gather_rows(features.summary, rows.images)
    if rows.regions is None:
        return View(whole, None, whole)
    summary, mask = model.encode_regions(features, rows.images, rows.regions.bbox, rows.regions.mask)
    return View(summary, mask, whole)


def contrast(
    model: X2VLM, stream: StepPlan, negatives: Negatives | None = None, partners: RankExchange | None = None
) -> tuple[dict[str, Tensor], StepPlan]:
    """The contrastive loss if it is on, and the stream with its hard negatives if a matching loss is on.

    In parallel text the first text takes the place of the image (CCLM, arXiv:2206.00621, section 3).

    Args:
        negatives: instead of drawn ones.
        partners: see `step_losses`.
    """
    rows = stream.rows
    names = [loss for loss in stream.on if loss in CONTRASTIVE]
    matched = any(loss in MATCHING for loss in stream.on)
    if isinstance(rows, TextRows) or not (names or matched):
        return {}, stream
    if stream.view is None:
        first, second = map(model.project_texts, stream.texts.clean)
        temperature = model.text_temperature
    else:
        first = model.project_images(stream.view.summary)
        second, temperature = model.project_texts(stream.texts.clean[0]), model.temperature
    if partners is not None and rows.whole is not None:
        own, whole = (first, second), rows.whole
        first, second = partners.of_all(whole, first, second)
        logits = contrastive_logits(first, second, temperature)
        of_whole: dict[str, Tensor] = {name: itc_loss(logits, whole.group) for name in names}
        if matched:
            drawn = Negatives(*draw(partners, whole, stream.fused, logits, own, temperature))
            stream = stream._replace(negatives=drawn)
        return of_whole, stream
    logits = contrastive_logits(first, second, temperature)
    losses: dict[str, Tensor] = {name: itc_loss(logits, rows.group) for name in names}
    if matched:
        stream = stream._replace(negatives=negatives or _draw(logits, rows.group, rows.fused))
    return losses, stream


def _draw(logits: Tensor, group: Tensor, rows: int | None) -> Negatives:
    """Negatives of the first rows, among all; `logits` are images (or first texts) against texts."""
    text, text_valid = draw_negatives(negative_weights(logits, group)[:rows])
    image, image_valid = draw_negatives(negative_weights(logits.T, group)[:rows])
    return Negatives(image, text, torch.cat([torch.ones_like(image_valid), image_valid, text_valid]))


def add_rows(fusion: FusionPass, name: str, stream: StepPlan, part: slice = ALL) -> None:
    """Put the rows of a stream's other losses into the fusion pass.

    Args:
        part: of the rows that are fused.
    """
    rows, texts = stream.rows, stream.texts
    if isinstance(rows, TextRows):
        if texts.masked is not None and texts.masked_mask is not None:
            fusion.add((name, "mlm"), texts.masked[part], texts.masked_mask[part], None)
    elif isinstance(rows, ParallelRows):
        _add_parallel(fusion, name, rows, stream, part)
    elif stream.view is not None:
        _add_paired(fusion, name, rows, stream, stream.view, part)


def _add_paired(
    fusion: FusionPass, name: str, rows: PairedRows, stream: StepPlan, view: View, part: slice
) -> None:
    on, texts, negatives = stream.on, stream.texts, stream.negatives
    (tokens,) = texts.clean
    mask = rows.texts.mask
    if negatives is not None:
        itself = _numbers(negatives.text, part)
        image = torch.cat([itself, negatives.image[part], itself])
        text = torch.cat([itself, itself, negatives.text[part]])
        fusion.add(
            (name, "itm"), gather_rows(tokens, text), mask[text], _image(rows, view, image), summary=True
        )
    if "bbox" in on or "giou" in on:
        # The box is to be found, so these rows see the whole image (X²-VLM, section 3.2).
        some = slice(*part.indices(len(tokens[: rows.fused])))
        context = Context(view.whole[:0], rows.images[some], None, view.whole[some, None])
        fusion.add((name, "bbox"), tokens[some], mask[some], context, summary=True)
    if "mlm" in on and texts.masked is not None and texts.masked_mask is not None:
        itself = _numbers(texts.masked, part)
        fusion.add((name, "mlm"), texts.masked[part], texts.masked_mask[part], _image(rows, view, itself))


def _numbers(rows: Tensor, part: slice) -> Tensor:
    """Which rows a part of some rows is."""
    return torch.arange(*part.indices(len(rows)), device=rows.device)


def _image(rows: PairedRows, view: View, which: Tensor) -> Context:
    """Context of rows that look at the image (or region) of row `which`; the pass puts the patches in."""
    mask = None if view.mask is None else view.mask[which]
    return Context(view.whole[:0], rows.images[which], mask, gather_rows(view.summary, which)[:, None])


def _add_parallel(fusion: FusionPass, name: str, rows: ParallelRows, stream: StepPlan, part: slice) -> None:
    texts, negatives = stream.texts, stream.negatives
    first, second = texts.clean
    if negatives is not None:
        itself = _numbers(negatives.text, part)
        context = torch.cat([itself, negatives.image[part], itself])
        text = torch.cat([itself, itself, negatives.text[part]])
        fusion.add(
            (name, "ttm"),
            gather_rows(second, text),
            rows.second.mask[text],
            Context(first, context, rows.first.mask[context], None),
            summary=True,
        )
    if "tlm" in stream.on and texts.masked is not None and texts.masked_mask is not None:
        # The masked first text looks at the clean second one; the official code does no more either.
        itself = _numbers(texts.masked, part)
        context_of_second = Context(second, itself, rows.second.mask[itself], None)
        fusion.add((name, "tlm"), texts.masked[part], texts.masked_mask[part], context_of_second)


def fused_losses(
    model: X2VLM,
    name: str,
    stream: StepPlan,
    fused: Mapping[tuple[str, str], Tensor],
    part: slice = ALL,
    measures: StepMetrics | None = None,
) -> dict[str, Tensor]:
    """The losses of the rows that `add_rows` put into the pass with the same `part`."""
    rows, losses = stream.rows, dict[str, Tensor]()
    for matching in MATCHING:
        if (name, matching) in fused:
            logits, valid = model.itm_logits(fused[name, matching]), _valid(stream, part)
            losses[matching] = itm_loss(logits, valid)
            if measures is not None:
                measures.matching(f"{name}.{matching}", logits, valid)
    if (name, "bbox") in fused and isinstance(rows, PairedRows) and rows.regions is not None:
        bbox = model.predict_bbox(fused[name, "bbox"])
        target, counts = rows.regions.bbox[: rows.fused][part], ~rows.regions.whole[: rows.fused][part]
        if "bbox" in stream.on:
            losses["bbox"] = bbox_loss(bbox, target, counts)
        if "giou" in stream.on:
            losses["giou"] = giou_loss(bbox, target, counts)
    masked = stream.masked
    for masked_name in MASKED:
        if (name, masked_name) in fused and masked is not None:
            logits = model.mlm_head(fused[name, masked_name], masked.positions[part])
            losses[masked_name] = mlm_loss(logits, masked.labels[part])
    return losses


def _valid(stream: StepPlan, part: slice) -> Tensor | None:
    """Which of a part's matching rows count, in thirds."""
    if stream.negatives is None or stream.negatives.valid is None:
        return None
    return stream.negatives.valid.view(3, -1)[:, part].flatten()
