"""Build model and batch of the step benchmark: random weights, images and texts."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from x2kit.data.config import LossName
from x2kit.data.pipeline.batch import Batch, MaskedTexts, PairedRows, Regions
from x2kit.data.pipeline.collation import groups, pad_texts
from x2kit.model import X2VLM
from x2kit.model.build import build_model
from x2kit.plugin.tasks import STEP_LOSSES
from x2kit.recipe import read_recipe
from x2kit.training.step.plan import Negatives

MODEL = "official/x2vlm-base"
DROPOUT = (
    "model.text.init_args.dropout",
    "model.fusion.init_args.dropout",
    "model.vision.init_args.drop_path",
)
"""Set to 0, as random masks could not be equal."""

ACTIVE: dict[str, tuple[LossName, ...]] = {"image": STEP_LOSSES["images"], "region": STEP_LOSSES["boxes"]}
CAPTION_TOKENS, REGION_TOKENS = (8, 24), (4, 16)
"""Shortest and longest: captions are about 12 words (COCO, CC3M), texts of regions about 5 (Visual Genome)."""
SPREAD = "spread"
"""Instead of shortest and longest: captions of 13 tokens on average and up to 40, regions named by 2 to 6 words."""
MASKED_SHARE = 0.25
"""Of the tokens (X²-VLM, section 4.1)."""


class Task(NamedTuple):
    """Inputs of both steps."""

    model: X2VLM
    batch: Batch
    negatives: dict[str, Negatives]


def make_task(
    images: int,
    settings: dict[str, object] | None = None,
    seed: int = 0,
    regions: int = 4,
    tokens: int | str | None = None,
    shared: bool = True,
) -> Task:
    """Build a model and a batch of 2 captions and some regions for each image.

    Args:
        images: M; 6 give the 12 image-texts and 24 region-texts.
        settings: overrides of the recipe of the base model, by key.
        seed: of weights, images, texts, boxes, masks and negatives.
        regions: of each image.
        tokens: of every text, or `SPREAD`; by default captions and regions have evenly drawn lengths.
        shared: captions and regions are of the same images; otherwise every caption has an image of its own, and
            regions are of M others, as where two streams draw from two sources.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    overrides = {**dict.fromkeys(DROPOUT, 0), **(settings or {})}
    recipe = read_recipe([MODEL], list(overrides.items())).recipe
    model = build_model(recipe.model, tokenizer=recipe.model.text.official_tokenizer(None)).train()
    captions, regions = 2 * images, regions * images
    of_captions, of_regions = _lengths(captions, regions, tokens, rng)
    of_image = torch.arange(captions) % images if shared else torch.arange(captions)
    of_region = torch.arange(regions) % images + (0 if shared else captions)
    streams: dict[str, Any] = {
        "image": _rows(model, of_image, of_captions, rng),
        "region": _rows(model, of_region, of_regions, rng)._replace(
            regions=Regions(_boxes(regions), torch.zeros(regions, dtype=torch.bool))
        ),
    }
    size, distinct = model.image_spec.size, images if shared else captions + images
    batch = Batch(0, torch.rand(distinct, 3, size, size), streams, {}, [])
    return Task(model, batch, {name: _negatives(len(rows.images)) for name, rows in streams.items()})


def _lengths(
    captions: int, regions: int, tokens: int | str | None, rng: Generator
) -> tuple[list[int], list[int]]:
    """Draw the tokens of captions and of texts of regions, the longest first.

    The longest is always there, so that a seed does not decide how much padding there is.
    """
    if tokens == SPREAD:
        spread = rng.gamma(4, 13 / 4, captions - 1).round().clip(5, 40)
        return [40, *map(int, spread)], [8, *map(int, rng.integers(4, 9, regions - 1))]
    of_both = (CAPTION_TOKENS, REGION_TOKENS) if tokens is None else ((tokens, tokens), (tokens, tokens))
    drawn = [
        [most, *map(int, rng.integers(least, most + 1, count - 1))]
        for count, (least, most) in zip((captions, regions), of_both, strict=True)
    ]
    return drawn[0], drawn[1]


def _rows(model: X2VLM, images: Tensor, lengths: list[int], rng: Generator) -> PairedRows:
    count = len(images)
    special, vocab = model.tokenizer.special, model.tokenizer.vocab_size
    texts = [
        [special.cls, *(int(i) for i in rng.integers(vocab // 2, vocab, n - 2)), special.sep] for n in lengths
    ]
    plain = pad_texts(texts, special.pad, max(lengths))
    return PairedRows(
        images,
        plain,
        _masked(plain.ids, lengths, special.mask),
        groups(range(count)),
    )


def _masked(ids: Tensor, lengths: list[int], mask_id: int) -> MaskedTexts:
    most = max(1, round(MASKED_SHARE * max(lengths)))
    positions = torch.zeros(len(ids), most, dtype=torch.int64)
    labels = torch.full_like(positions, -100)
    hidden = ids.clone()
    for row, length in enumerate(lengths):
        chosen = 1 + torch.randperm(length - 2)[: max(1, round(MASKED_SHARE * length))]
        positions[row, : len(chosen)] = chosen
        labels[row, : len(chosen)] = ids[row, chosen]
        hidden[row, chosen] = mask_id
    return MaskedTexts(hidden, positions, labels)


def _boxes(count: int) -> Tensor:
    """Draw boxes inside the image: [count, 4] cxcywh."""
    size = 0.1 + 0.5 * torch.rand(count, 2)
    return torch.cat([size / 2 + torch.rand(count, 2) * (1 - size), size], 1)


def _negatives(count: int) -> Negatives:
    """Draw another row for each row, in both directions."""
    rows = torch.arange(count)
    first, second = (1 + torch.randint(count - 1, (count,)) for _ in range(2))
    return Negatives((rows + first) % count, (rows + second) % count)
