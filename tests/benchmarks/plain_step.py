"""Compute a training step by the definitions (X²-VLM, arXiv:2211.12402; X-VLM, arXiv:2111.08276).

One call of an encoder for each stream and loss, an image's patches copied out for every text row, texts padded to
the limit, attention written out. Whole images come one for each text, as loaders of pairs bring them; the images
of regions are encoded once and then copied, as in the official code. It runs on x2kit's own parameters, so that
losses and gradients can be compared.

B rows, L text tokens, N patches, D width, H heads, M images of the regions.
"""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from x2kit_fusion.cross_bert import Attention, CrossBertLayer

from x2kit.data.pipeline.batch import Batch, PairedRows
from x2kit.model import X2VLM
from x2kit.model.regions import patch_mask
from x2kit.training.step.plan import Negatives

LIMIT = 40
"""Tokens that every text is padded to (configs/pretrain/x2vlm_base_4m.yaml: max_tokens)."""
IGNORED = -100


class PlainRows(NamedTuple):
    """One stream. For regions `images` are the distinct images and `image` [B] says which each row has.

    `bbox` [B, 4] is cxcywh; None for whole images, of which row i has the i-th.
    """

    images: Tensor
    ids: Tensor
    mask: Tensor
    masked_ids: Tensor
    masked_positions: Tensor
    masked_labels: Tensor
    negatives: Negatives
    one_image: Tensor | None = None
    bbox: Tensor | None = None


def plain_rows(batch: Batch, rows: PairedRows, negatives: Negatives) -> PlainRows:
    """Convert a stream to the form of a usual data loader."""
    assert batch.images is not None
    assert rows.masked is not None
    padding = LIMIT - rows.texts.ids.shape[1]
    texts = (
        F.pad(rows.texts.ids, (0, padding)),
        F.pad(rows.texts.mask, (0, padding)),
        F.pad(rows.masked.ids, (0, LIMIT - rows.masked.ids.shape[1])),
        rows.masked.positions,
        rows.masked.labels,
    )
    if rows.regions is None:
        return PlainRows(batch.images[rows.images], *texts, negatives)
    distinct, one_image = rows.images.unique(return_inverse=True)
    return PlainRows(batch.images[distinct], *texts, negatives, one_image, rows.regions.bbox)


def plain_twin(model: X2VLM) -> X2VLM:
    """Copy the model with shared parameters and unfused attention, as in the official encoders."""
    twin = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    twin.text.model.set_attn_implementation("eager")
    for block in twin.vision.model.blocks:
        block.attn.fused_attn = False
    return twin


def plain_losses(model: X2VLM, rows: PlainRows) -> dict[str, Tensor]:
    """Compute the losses of one stream.

    Args:
        model: see `plain_twin`.
        rows: of the stream.
    Returns: itc, itm and mlm; for regions bbox and giou as well.
    """
    itself = torch.arange(len(rows.ids), device=rows.ids.device)
    image, image_mask, whole = _images(model, rows)
    text = model.encode_texts(rows.ids, rows.mask)

    image_feature = F.normalize(model.vision_proj(image[:, 0]), dim=-1)
    text_feature = F.normalize(model.text_proj(text[:, 0]), dim=-1)
    logits = image_feature @ text_feature.T / model.temperature
    losses = {"itc": (F.cross_entropy(logits, itself) + F.cross_entropy(logits.T, itself)) / 2}

    matched = _fuse(model, text, rows.mask, image, image_mask)
    images = torch.cat([rows.negatives.image, itself])
    texts = torch.cat([itself, rows.negatives.text])
    unmatched = _fuse(model, text[texts], rows.mask[texts], image[images], image_mask[images])
    answers = model.itm_head(torch.cat([matched[:, 0], unmatched[:, 0]]))
    losses["itm"] = F.cross_entropy(answers, torch.cat([torch.ones_like(itself), torch.zeros_like(texts)]))

    masked = _fuse(model, model.encode_texts(rows.masked_ids, rows.mask), rows.mask, image, image_mask)
    losses["mlm"] = _masked_language(model, masked, rows)

    if rows.bbox is not None:
        everything = torch.ones_like(image_mask)
        box = torch.sigmoid(model.bbox_head(_fuse(model, text, rows.mask, whole, everything)[:, 0]))
        losses["bbox"] = (box - rows.bbox).abs().sum(1).mean()
        losses["giou"] = (1 - _giou(_corners(box), _corners(rows.bbox))).mean()
    return losses


def _images(model: X2VLM, rows: PlainRows) -> tuple[Tensor, Tensor, Tensor]:
    """Return the image context of each row [B, 1 + N, D], summary first, its mask, and the whole image."""
    features = model.encode_images(rows.images)
    whole = torch.cat([features.summary[:, None], features.patches], 1)
    if rows.bbox is None or rows.one_image is None:
        return whole, torch.ones(whole.shape[:2], dtype=torch.bool, device=whole.device), whole
    whole = whole[rows.one_image]
    mask = patch_mask(rows.bbox, features.grid)
    patches = whole[:, 1:]
    summary = (patches * mask[:, :, None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
    return torch.cat([summary, patches], 1), F.pad(mask, (1, 0), value=True), whole


def _fuse(model: X2VLM, text: Tensor, text_mask: Tensor, image: Tensor, image_mask: Tensor) -> Tensor:
    """Fuse texts [B, L, D] with images [B, 1 + N, D], all layers at all positions."""
    for layer in model.fusion.layers:
        assert isinstance(layer, CrossBertLayer)
        text = _attend(layer.self_attention, text, text, text_mask)
        text = _attend(layer.cross_attention, text, image, image_mask)
        text = layer.norm(text + layer.output(F.gelu(layer.intermediate(text))))
    return text


def _attend(attention: Attention, x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    """softmax(QK' / sqrt(D / H)) V, with the residual and the norm behind it."""

    def heads(y: Tensor) -> Tensor:
        return y.unflatten(-1, (attention.heads, -1)).transpose(1, 2)

    query = heads(attention.query(x))
    key, value = (heads(part) for part in attention.key_value(source).chunk(2, -1))
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
    scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
    attended = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    return attention.norm(x + attention.output(attended))


def _masked_language(model: X2VLM, fused: Tensor, rows: PlainRows) -> Tensor:
    states = fused.gather(1, rows.masked_positions[:, :, None].expand(-1, -1, fused.shape[-1]))
    head: nn.Module = model.mlm_head
    logits = head.decoder(head.norm(F.gelu(head.dense(states))))
    return F.cross_entropy(logits.flatten(0, 1), rows.masked_labels.flatten(), ignore_index=IGNORED)


def _corners(bbox: Tensor) -> Tensor:
    return torch.cat([bbox[:, :2] - bbox[:, 2:] / 2, bbox[:, :2] + bbox[:, 2:] / 2], 1)


def _giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised intersection over union (arXiv:1902.09630) of corners [B, 4]."""

    def area(box: Tensor) -> Tensor:
        return (box[:, 2:] - box[:, :2]).clamp_min(0).prod(1)

    overlap = area(torch.cat([torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])], 1))
    hull = area(torch.cat([torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:])], 1))
    union = area(a) + area(b) - overlap
    return overlap / union - (hull - union) / hull
