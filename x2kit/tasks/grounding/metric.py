"""Measure visual grounding: predict a region's box from its text and the whole image. Imports torch.

A hit is a predicted box whose intersection over union with the true box is above the limit. The chance level is the
share of hits if each prediction were the true box of another region of the set, drawn at random: a guess with the
right sizes and shapes that ignores the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from x2kit.distributed.ranks import Ranks
from x2kit.errors import DataError
from x2kit.model.x2vlm import X2VLM
from x2kit.objectives.boxes import iou_and_giou
from x2kit.plugin.tasks import TaskContext
from x2kit.tasks.records import (
    Entry,
    RegionTexts,
    common_regions,
    encode_records,
    has_region_texts,
    regions_in,
)
from x2kit.tasks.scoring import ONE_RANK, ImageBank, Progress, encode_text_bank, fuse_pairs, no_progress

if TYPE_CHECKING:
    from x2kit.tasks.grounding.config import Grounding

CHANCE_BOXES = 2000
"""Boxes whose pairs give the chance level; evenly spaced ones if there are more."""


class PredictedRegions(NamedTuple):
    """Regions of one language with the boxes that the model predicts.

    Attributes:
        regions: R regions.
        predicted: [R, 4] cxcywh in [0, 1].
        iou: [R], with the true box.
    """

    regions: RegionTexts
    predicted: Tensor
    iou: Tensor


def measure_grounding(config: Grounding, context: TaskContext) -> Mapping[str, Any]:
    """Measure the share of hits in every language.

    Returns, for `evaluation.json`:
        grounding.CODE: iou50 (share of hits; the number is the limit in per cent), mean_iou, regions and images
            (counts), chance, trained_with_images.
        grounding_iou: the limit.
        grounding_mean_trained, grounding_mean_zero_shot: share of hits averaged over languages, None without one.
        grounding_without: languages without region texts; captions may have more languages than regions.
    Raises: DataError for a broken record, or if no region has a text in any of the languages.
    """
    images, entries = encode_records(context, frames=None, project=False)
    entries, languages = select_regions(config, context.languages, entries)
    rows = {language: _measure_language(config, context, images, entries, language) for language in languages}
    name = share_name(config.iou)
    trained = [found[name] for found in rows.values() if found["trained_with_images"]]
    zero_shot = [found[name] for found in rows.values() if not found["trained_with_images"]]
    return {
        "grounding": rows,
        "grounding_iou": config.iou,
        "grounding_mean_trained": fmean(trained) if trained else None,
        "grounding_mean_zero_shot": fmean(zero_shot) if zero_shot else None,
        "grounding_without": [language for language in context.languages if language not in rows],
    }


def select_regions(
    config: Grounding, languages: Sequence[str], entries: list[Entry]
) -> tuple[list[Entry], list[str]]:
    """Select the measured regions, and the languages in which any region has a text.

    Raises: DataError if there is no such language, or under `common_subset` no region with a text in all of them.
    """
    only = len(languages) == 1

    def measurable(entries: Sequence[Entry]) -> list[str]:
        return [code for code in languages if has_region_texts(entries, code, only, config.max_words)]

    found = measurable(entries)
    if not found:
        raise DataError(
            f"no region has a text in {', '.join(languages)}; remove the Grounding task from evaluation.tasks, or "
            "measure languages that have region texts: --evaluation.languages"
        )
    if config.common_subset:
        entries = common_regions(entries, found)
        if measurable(entries) != found:
            raise DataError(
                f"common_subset: no region has a text in all of {', '.join(found)}; measure fewer languages "
                "(--evaluation.languages), or set common_subset: false"
            )
    return entries, found


def share_name(limit: float) -> str:
    """Return the result key of the share of hits, for example iou50."""
    return f"iou{round(100 * limit)}"


def _measure_language(
    config: Grounding,
    context: TaskContext,
    images: ImageBank,
    entries: Sequence[Entry],
    language: str,
) -> dict[str, Any]:
    only = len(context.languages) == 1
    predicted = predict_regions(
        config,
        context.model,
        images,
        entries,
        language,
        only,
        context.batch_size,
        lambda done, total: context.progress(f"grounding, {language}", done, total),
        context.ranks,
    )
    return {
        share_name(config.iou): float((predicted.iou > config.iou).double().mean()),
        "mean_iou": float(predicted.iou.double().mean()),
        "regions": len(predicted.iou),
        "images": len(set(predicted.regions.images)),
        "chance": _cached_chance(tuple(map(tuple, predicted.regions.bbox)), config.iou),
        "trained_with_images": language in context.trained_with_images,
    }


def predict_regions(
    config: Grounding,
    model: X2VLM,
    images: ImageBank,
    entries: Sequence[Entry],
    language: str,
    only: bool,
    batch_size: int,
    progress: Progress = no_progress,
    ranks: Ranks = ONE_RANK,
) -> PredictedRegions:
    """Predict the box of every region with a text in this language; each distinct text is encoded once.

    Ranks share the work, and all get every prediction.

    Raises: DataError if no region has a text in this language.
    """
    regions = regions_in(entries, language, only, config.max_words)
    if not regions.texts:
        raise DataError(f"no region has a text in {language}")
    numbers = {text: number for number, text in enumerate(dict.fromkeys(regions.texts))}
    texts = encode_text_bank(model, list(numbers), config.max_tokens, batch_size, ranks=ranks, project=False)
    pairs = torch.tensor([regions.images, [numbers[text] for text in regions.texts]]).T.contiguous()
    predicted = fuse_pairs(model, images, texts, pairs, model.predict_bbox, progress, ranks)
    return PredictedRegions(regions, predicted, iou_and_giou(predicted, torch.tensor(regions.bbox))[0])


@lru_cache(maxsize=1)
def _cached_chance(bbox: tuple[tuple[float, ...], ...], limit: float) -> float:
    """Cache `chance_hits`: usually all languages describe the same regions."""
    return chance_hits(torch.tensor(bbox), limit)


def chance_hits(bbox: Tensor, limit: float) -> float:
    """Compute the share of ordered pairs of different boxes [R, 4] with an intersection over union above the limit."""
    if len(bbox) > CHANCE_BOXES:
        bbox = bbox[torch.linspace(0, len(bbox) - 1, CHANCE_BOXES).long()]
    count = len(bbox)
    if count < 2:
        return 0.0
    hits = sum(int((iou_and_giou(box.expand(count, 4), bbox)[0] > limit).sum()) - 1 for box in bbox)
    return hits / (count * (count - 1))
