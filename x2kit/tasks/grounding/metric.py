"""Boxes by name: is a part of an image found when its text and the whole image are given. Imports torch.

A hit is a predicted box whose intersection over union with the true box is above the limit. The chance level is the
share of hits if each prediction were the true box of another region of the set, drawn at random: it has the right
sizes and shapes, and knows nothing of the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from x2kit.distributed.ranks import Ranks
from x2kit.errors import DataError
from x2kit.model.x2vlm import X2VLM
from x2kit.objectives.boxes import iou_and_giou
from x2kit.plugin.tasks import TaskContext
from x2kit.tasks.config import Grounding
from x2kit.tasks.records import Entry, NamedBoxes, common_regions, encode_records, named_boxes, region_texts
from x2kit.tasks.scoring import ALONE, ImageBank, Progress, encode_text_bank, fuse_pairs, silent

CHANCE_BOXES = 2000
"""Boxes that the chance level is worked out from, all pairs of them; of more boxes evenly spaced ones."""


class Located(NamedTuple):
    """Regions of one language and where the model sees them.

    Attributes:
        boxes: R regions.
        predicted: [R, 4] cxcywh in [0, 1].
        iou: [R], with the true box.
    """

    boxes: NamedBoxes
    predicted: Tensor
    iou: Tensor


def measure_grounding(config: Grounding, context: TaskContext) -> Mapping[str, Any]:
    """Measure all languages.

    Returns, for `evaluation.json`:
        grounding.CODE: iou50 (the share found; the number is the limit in per cent), mean_iou, regions and images
            measured, chance, trained_with_images.
        grounding_iou: the limit.
        grounding_mean_trained, grounding_mean_zero_shot: the share found averaged over languages, None where there
            is none.
        grounding_without: languages in which no region has a text; captions may have more languages than regions.
    Raises: DataError for a broken record, or if no region has a text in any of the languages.
    """
    images, entries = encode_records(context, frames=None, project=False)
    entries, languages = regions_of(config, context.languages, entries)
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


def regions_of(
    config: Grounding, languages: Sequence[str], entries: list[Entry]
) -> tuple[list[Entry], list[str]]:
    """The entries with the regions that are measured, and the languages in which any has a text.

    Raises: DataError if there is no such language, or no region has a text in all of them under `common_subset`.
    """
    only = len(languages) == 1

    def spoken(entries: Sequence[Entry]) -> list[str]:
        return [code for code in languages if region_texts(entries, code, only, config.max_words)]

    found = spoken(entries)
    if not found:
        raise DataError(
            f"no region has a text in {', '.join(languages)}, so no box can be looked for; leave the task "
            "Grounding out of evaluation.tasks, or name languages that have: --evaluation.languages"
        )
    if config.common_subset:
        entries = common_regions(entries, found)
        if spoken(entries) != found:
            raise DataError(
                f"common_subset: no region has a text in all of {', '.join(found)}; measure fewer languages "
                "(--evaluation.languages), or set common_subset: false"
            )
    return entries, found


def share_name(limit: float) -> str:
    """The key of the share of boxes found, for example iou50."""
    return f"iou{round(100 * limit)}"


def _measure_language(
    config: Grounding,
    context: TaskContext,
    images: ImageBank,
    entries: Sequence[Entry],
    language: str,
) -> dict[str, Any]:
    only = len(context.languages) == 1
    located = locate_regions(
        config,
        context.model,
        images,
        entries,
        language,
        only,
        context.batch_size,
        lambda done, total: context.progress(f"boxes, {language}", done, total),
        context.ranks,
    )
    return {
        share_name(config.iou): float((located.iou > config.iou).double().mean()),
        "mean_iou": float(located.iou.double().mean()),
        "regions": len(located.iou),
        "images": len(set(located.boxes.images)),
        "chance": _chance_hits_once(tuple(map(tuple, located.boxes.bbox)), config.iou),
        "trained_with_images": language in context.trained_with_images,
    }


def locate_regions(
    config: Grounding,
    model: X2VLM,
    images: ImageBank,
    entries: Sequence[Entry],
    language: str,
    only: bool,
    batch_size: int,
    progress: Progress = silent,
    ranks: Ranks = ALONE,
) -> Located:
    """Predict the box of every region that has a text in this language; each distinct text is encoded once.

    Of several processes each does a part, and all get the whole.

    Raises: DataError if no region has one.
    """
    boxes = named_boxes(entries, language, only, config.max_words)
    if not boxes.texts:
        raise DataError(f"no region has a text in {language}")
    numbers = {text: number for number, text in enumerate(dict.fromkeys(boxes.texts))}
    texts = encode_text_bank(model, list(numbers), config.max_tokens, batch_size, ranks=ranks, project=False)
    pairs = torch.tensor([boxes.images, [numbers[text] for text in boxes.texts]]).T.contiguous()
    predicted = fuse_pairs(model, images, texts, pairs, model.predict_bbox, progress, ranks)
    return Located(boxes, predicted, iou_and_giou(predicted, torch.tensor(boxes.bbox))[0])


@lru_cache(maxsize=1)
def _chance_hits_once(bbox: tuple[tuple[float, ...], ...], limit: float) -> float:
    """`chance_hits`; most often all languages name the same regions."""
    return chance_hits(torch.tensor(bbox), limit)


def chance_hits(bbox: Tensor, limit: float) -> float:
    """Share of ordered pairs of different boxes [R, 4] whose intersection over union is above the limit."""
    if len(bbox) > CHANCE_BOXES:
        bbox = bbox[torch.linspace(0, len(bbox) - 1, CHANCE_BOXES).long()]
    count = len(bbox)
    if count < 2:
        return 0.0
    hits = sum(int((iou_and_giou(box.expand(count, 4), bbox)[0] > limit).sum()) - 1 for box in bbox)
    return hits / (count * (count - 1))
