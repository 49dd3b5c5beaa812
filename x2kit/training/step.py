"""One training step on a batch: one vision pass, one text pass, one fusion pass, then the losses. Imports torch.

Rows of all streams share the passes. Texts are grouped by padded length first, so that a stream of short region
texts is not padded to the captions of another: a pass is one call for each length that the batch has.

B rows of a stream, L text tokens, N patches, D width, M distinct pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.data.batch import Batch, PairedRows, ParallelRows, Rows, TextRows
from x2kit.data.config import LossName
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
from x2kit.plugin import Context, VisionFeatures, gather_rows
from x2kit.training.fusion_pass import FusionPass
from x2kit.training.text_pass import Encoded, text_pass

Active = Mapping[str, Sequence[LossName]]
"""The losses that are on, by stream."""

MASKED: tuple[LossName, ...] = ("mlm", "tlm")


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
    """[B, D], the summary of the row's whole picture."""


def step_losses(
    model: X2VLM, batch: Batch, active: Active, negatives: Mapping[str, Negatives] | None = None
) -> dict[str, dict[LossName, Tensor]]:
    """All losses of a step.

    Args:
        model: in training mode, on the batch's device.
        batch: see `x2kit.data.batch`.
        active: the losses that are on.
        negatives: hard negatives by stream, instead of drawn ones (recorded values in tests).
    Returns: scalars, by stream and loss, unweighted.
    """
    features = None if batch.images is None else model.encode_images(batch.images)
    masked = {name: any(loss in MASKED for loss in active.get(name, ())) for name in batch.streams}
    encoded = text_pass(model, batch.streams, masked)
    fusion = FusionPass()
    losses: dict[str, dict[LossName, Tensor]] = {}
    planned = []
    for name, rows in batch.streams.items():
        on, texts = active.get(name, ()), encoded[name]
        losses[name] = {}
        given = None if negatives is None else negatives.get(name)
        match rows:
            case PairedRows():
                if features is None:
                    raise ShapeError(f"stream {name} has rows of pictures, but the batch has no picture")
                planned.append(
                    _plan_paired(model, name, rows, texts, features, on, losses[name], fusion, given)
                )
            case ParallelRows():
                planned.append(_plan_parallel(model, name, rows, texts, on, losses[name], fusion, given))
            case TextRows():
                if texts.masked is not None and texts.masked_mask is not None:
                    fusion.add((name, "mlm"), texts.masked, texts.masked_mask, None)
                planned.append(None)
    fused = fusion.run(model, features)
    for (name, rows), valid in zip(batch.streams.items(), planned, strict=True):
        _fused_losses(model, name, rows, active.get(name, ()), fused, losses[name], valid)
    return losses


def _view(model: X2VLM, rows: PairedRows, features: VisionFeatures) -> View:
    whole = gather_rows(features.summary, rows.images)
    if rows.regions is None:
        return View(whole, None, whole)
    summary, mask = model.encode_regions(features, rows.images, rows.regions.bbox, rows.regions.mask)
    return View(summary, mask, whole)


def _draw(logits: Tensor, group: Tensor, rows: int | None) -> Negatives:
    """Negatives of the first rows, among all; `logits` are images (or first texts) against texts."""
    text, text_valid = draw_negatives(negative_weights(logits, group)[:rows])
    image, image_valid = draw_negatives(negative_weights(logits.T, group)[:rows])
    return Negatives(image, text, torch.cat([torch.ones_like(image_valid), image_valid, text_valid]))


def _plan_paired(
    model: X2VLM,
    name: str,
    rows: PairedRows,
    texts: Encoded,
    features: VisionFeatures,
    on: Sequence[LossName],
    losses: dict[LossName, Tensor],
    fusion: FusionPass,
    negatives: Negatives | None,
) -> Tensor | None:
    """Contrastive loss now, rows of the other losses into the fusion pass; which matching rows count."""
    view = _view(model, rows, features)
    (tokens,) = texts.clean
    mask = rows.texts.mask
    valid = None
    if "itc" in on or "itm" in on:
        logits = contrastive_logits(
            model.project_images(view.summary), model.project_texts(tokens), model.temperature
        )
        if "itc" in on:
            losses["itc"] = itc_loss(logits, rows.group)
    if "itm" in on:
        negatives = negatives or _draw(logits, rows.group, rows.fused)
        valid = negatives.valid
        itself = torch.arange(len(negatives.text), device=tokens.device)
        image = torch.cat([itself, negatives.image, itself])
        text = torch.cat([itself, itself, negatives.text])
        fusion.add(
            (name, "itm"), gather_rows(tokens, text), mask[text], _picture(rows, view, image), summary=True
        )
    if "bbox" in on or "giou" in on:
        # The box is to be found, so these rows see the whole picture (X²-VLM, section 3.2).
        some = slice(rows.fused)
        context = Context(features.patches, rows.images[some], None, view.whole[some, None])
        fusion.add((name, "bbox"), tokens[some], mask[some], context, summary=True)
    if "mlm" in on and texts.masked is not None and texts.masked_mask is not None:
        itself = torch.arange(len(texts.masked), device=tokens.device)
        fusion.add(
            (name, "mlm"),
            texts.masked,
            texts.masked_mask,
            _picture(rows, view, itself),
        )
    return valid


def _picture(rows: PairedRows, view: View, which: Tensor) -> Context:
    """Context of rows that look at the picture (or region) of row `which`; the pass puts the patches in."""
    mask = None if view.mask is None else view.mask[which]
    return Context(view.whole[:0], rows.images[which], mask, gather_rows(view.summary, which)[:, None])


def _plan_parallel(
    model: X2VLM,
    name: str,
    rows: ParallelRows,
    texts: Encoded,
    on: Sequence[LossName],
    losses: dict[LossName, Tensor],
    fusion: FusionPass,
    negatives: Negatives | None,
) -> Tensor | None:
    """The first text takes the place of the picture (CCLM, arXiv:2206.00621, section 3)."""
    first, second = texts.clean
    valid = None
    if "ttc" in on or "ttm" in on:
        logits = contrastive_logits(
            model.project_texts(first), model.project_texts(second), model.text_temperature
        )
        if "ttc" in on:
            losses["ttc"] = itc_loss(logits, rows.group)
    if "ttm" in on:
        negatives = negatives or _draw(logits, rows.group, rows.fused)
        valid = negatives.valid
        itself = torch.arange(len(negatives.text), device=first.device)
        context = torch.cat([itself, negatives.image, itself])
        text = torch.cat([itself, itself, negatives.text])
        fusion.add(
            (name, "ttm"),
            gather_rows(second, text),
            rows.second.mask[text],
            Context(first, context, rows.first.mask[context], None),
            summary=True,
        )
    if "tlm" in on and texts.masked is not None and texts.masked_mask is not None:
        # The masked first text looks at the clean second one; the official code does no more either.
        itself = torch.arange(len(texts.masked), device=first.device)
        context_of_second = Context(second, itself, rows.second.mask[: len(itself)], None)
        fusion.add((name, "tlm"), texts.masked, texts.masked_mask, context_of_second)
    return valid


def _fused_losses(
    model: X2VLM,
    name: str,
    rows: Rows,
    on: Sequence[LossName],
    fused: Mapping[tuple[str, str], Tensor],
    losses: dict[LossName, Tensor],
    valid: Tensor | None,
) -> None:
    for match_name in ("itm", "ttm"):
        if (name, match_name) in fused:
            losses[match_name] = itm_loss(model.itm_logits(fused[name, match_name]), valid)
    if (name, "bbox") in fused and isinstance(rows, PairedRows) and rows.regions is not None:
        bbox = model.predict_bbox(fused[name, "bbox"])
        target, counts = rows.regions.bbox[: rows.fused], ~rows.regions.whole[: rows.fused]
        if "bbox" in on:
            losses["bbox"] = bbox_loss(bbox, target, counts)
        if "giou" in on:
            losses["giou"] = giou_loss(bbox, target, counts)
    masked = rows.masked_first if isinstance(rows, ParallelRows) else rows.masked
    for masked_name in MASKED:
        if (name, masked_name) in fused and masked is not None:
            logits = model.mlm_head(fused[name, masked_name], masked.positions)
            losses[masked_name] = mlm_loss(logits, masked.labels)
