"""Measure visual grounding: predict a region's box from its text and the whole image. Imports torch.

A hit is a predicted box whose intersection over union with the true box reaches the limit, in pixels of the image
(RefCOCO+; see `pixel_iou`). The chance level is the share of hits if each prediction were the true box of another
region of the set, drawn at random: a guess with the right sizes and shapes that ignores the image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torchvision.ops import box_convert

from x2kit.distributed.ranks import Ranks
from x2kit.errors import DataError, HeadError
from x2kit.model.regions import boxes_in_pixels
from x2kit.model.x2vlm import X2VLM
from x2kit.objectives.boxes import iou_and_giou
from x2kit.plugin.tasks import TaskContext
from x2kit.plugin.toolkit.item_values import ItemValues
from x2kit.tasks.records import (
    Entry,
    RegionTexts,
    common_regions,
    encode_records,
    has_region_texts,
    numbered,
    regions_in,
)
from x2kit.tasks.scoring import (
    ONE_RANK,
    ImageBank,
    Progress,
    TextBank,
    encode_text_bank,
    fuse_pairs,
    no_progress,
)

if TYPE_CHECKING:
    from x2kit.tasks.grounding.config import RegionTask

CHANCE_BOXES = 2000
"""Boxes whose pairs give the chance level; evenly spaced ones if there are more."""


class Locator(Protocol):
    """A way to predict the box of a region from its text and the whole image."""

    def locate(
        self,
        model: X2VLM,
        images: ImageBank,
        texts: TextBank,
        pairs: Tensor,
        entries: Sequence[Entry],
        progress: Progress,
        ranks: Ranks,
    ) -> Tensor:
        """Predict the box of every region.

        Args:
            model: in evaluation mode.
            images, texts: encoded, all distinct texts once.
            pairs: [R, 2] int64, positions of image and text of each region.
            entries: R, the record of each region.
            progress: called with finished and total pairs of this rank.
            ranks: share the work, and get all predictions.
        Returns: [R, 4] float64, xywh in pixels; may exceed the image.
        """
        ...

    def facts(self, entries: Sequence[Entry], truth: Tensor, limit: float, chance: float) -> dict[str, Any]:
        """Return further numbers of a language.

        Args:
            entries: R, the record of each region.
            truth: [R, 4] float64, the true boxes, xywh in pixels.
            limit: of a hit.
            chance: level for boxes of other regions; the result may have another under the same name.
        """
        ...


class BoxHead:
    """Predicts boxes by the box head. Raises HeadError for a model without one."""

    def __init__(self, model: X2VLM) -> None:
        if not hasattr(model, "bbox_head"):
            raise HeadError("Grounding: the model has no box head; model.heads.built needs bbox")

    def locate(
        self,
        model: X2VLM,
        images: ImageBank,
        texts: TextBank,
        pairs: Tensor,
        entries: Sequence[Entry],
        progress: Progress,
        ranks: Ranks,
    ) -> Tensor:
        """Predict the box of every region; see `Locator`. Corners are not clipped to the image (official code)."""
        predicted = fuse_pairs(model, images, texts, pairs, model.predict_bbox, progress, ranks)
        return boxes_in_pixels(predicted.double(), [entry.size for entry in entries])

    def facts(self, entries: Sequence[Entry], truth: Tensor, limit: float, chance: float) -> dict[str, Any]:
        """Return nothing."""
        return {}


class PredictedRegions(NamedTuple):
    """Regions of one language with the boxes that the model predicts.

    Attributes:
        regions: R regions.
        entries: R, the record of each region.
        truth, predicted: [R, 4] float64 xywh in pixels.
        iou: [R] float64; see `pixel_iou`.
    """

    regions: RegionTexts
    entries: list[Entry]
    truth: Tensor
    predicted: Tensor
    iou: Tensor

    @property
    def normalised(self) -> Tensor:
        """The predicted boxes as [R, 4] cxcywh, shares of the image's sides."""
        sides = torch.tensor([entry.size for entry in self.entries], dtype=torch.float64).repeat(1, 2)
        return box_convert(self.predicted / sides, "xywh", "cxcywh")  # type: ignore[no-any-return]


def pixel_iou(first: Tensor, second: Tensor) -> Tensor:
    """Compute the IoU of boxes row by row as the evaluation of RefCOCO+ does (REFER, computeIoU).

    An overlap of at most one pixel along either axis counts as none, so two equal boxes one pixel wide have IoU 0.

    Args:
        first, second: [R, 4] float64 xywh in pixels, with width and height above 0.
    Returns: [R].
    """
    a, b = box_convert(first, "xywh", "xyxy"), box_convert(second, "xywh", "xyxy")
    sides = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    overlap = sides.prod(1) * (sides > 1).all(1)
    return overlap / (first[:, 2:].prod(1) + second[:, 2:].prod(1) - overlap)


def measure_grounding(config: RegionTask, context: TaskContext) -> Mapping[str, Any]:
    """Measure the share of hits in every language, and save the predictions of each as `predictions-LANGUAGE`.

    Returns, for `evaluation.json`:
        grounding.CODE: iou50 (share of hits; the number is the limit in per cent), mean_iou, regions and images
            (counts), chance, trained_with_images, and the facts of the locator.
        grounding_iou: the limit.
        grounding_mean_trained, grounding_mean_zero_shot: share of hits averaged over languages, None without one.
        grounding_without: languages without region texts; captions may have more languages than regions.
    Raises: DataError for a broken record, or if no region has a text in any of the languages.
    """
    locator = config.locator(context.model)
    images, entries = encode_records(context, frames=None, project=False)
    entries, languages = select_regions(config, context.languages, entries)
    rows = {
        language: _measure_language(config, context, locator, images, entries, language)
        for language in languages
    }
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
    config: RegionTask, languages: Sequence[str], entries: list[Entry]
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
    config: RegionTask,
    context: TaskContext,
    locator: Locator,
    images: ImageBank,
    entries: Sequence[Entry],
    language: str,
) -> dict[str, Any]:
    only = len(context.languages) == 1
    predicted = predict_regions(
        config,
        locator,
        context.model,
        images,
        entries,
        language,
        only,
        context.batch_size,
        lambda done, total: context.progress(f"grounding, {language}", done, total),
        context.ranks,
    )
    context.save(f"predictions-{language}", _results(predicted))
    chance = _cached_chance(tuple(map(tuple, predicted.regions.bbox)), config.iou)
    facts = locator.facts(predicted.entries, predicted.truth, config.iou, chance)
    if context.wants_items:
        _save_items(config, context, language, predicted, facts.get("chance", chance))
    return {
        share_name(config.iou): float((predicted.iou >= config.iou).double().mean()),
        "mean_iou": float(predicted.iou.double().mean()),
        "regions": len(predicted.iou),
        "images": len(set(predicted.regions.images)),
        "chance": chance,
        "trained_with_images": language in context.trained_with_images,
        **facts,
    }


def _save_items(
    config: RegionTask, context: TaskContext, language: str, predicted: PredictedRegions, chance: float
) -> None:
    """Save hit and IoU of each region; its id is that of the record with the number of the region's text."""
    records = [entry.id for entry in predicted.entries]
    hits = (predicted.iou >= config.iou).double().tolist()
    name = share_name(config.iou)
    context.save_items(
        ItemValues(
            language,
            f"grounding.{language}",
            numbered(records),
            {name: hits, "mean_iou": predicted.iou.double().tolist()},
            records=records,
            chance={name: chance},
        )
    )


def _results(predicted: PredictedRegions) -> list[dict[str, Any]]:
    """Format predictions for the results file: the record's id, the text, and the box, xywh in pixels."""
    return [
        {"id": entry.id, "text": text, "bbox": box}
        for entry, text, box in zip(
            predicted.entries, predicted.regions.texts, predicted.predicted.tolist(), strict=True
        )
    ]


def predict_regions(
    config: RegionTask,
    locator: Locator,
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
    described = [entries[position] for position in regions.images]
    predicted = locator.locate(model, images, texts, pairs, described, progress, ranks)
    truth = torch.tensor(regions.pixels, dtype=torch.float64)
    return PredictedRegions(regions, described, truth, predicted, pixel_iou(predicted, truth))


@lru_cache(maxsize=1)
def _cached_chance(bbox: tuple[tuple[float, ...], ...], limit: float) -> float:
    """Cache `chance_hits`: usually all languages describe the same regions."""
    return chance_hits(torch.tensor(bbox), limit)


def chance_hits(bbox: Tensor, limit: float) -> float:
    """Compute the share of ordered pairs of different boxes [R, 4] whose intersection over union reaches the limit."""
    if len(bbox) > CHANCE_BOXES:
        bbox = bbox[torch.linspace(0, len(bbox) - 1, CHANCE_BOXES).long()]
    count = len(bbox)
    if count < 2:
        return 0.0
    hits = sum(int((iou_and_giou(box.expand(count, 4), bbox)[0] >= limit).sum()) - 1 for box in bbox)
    return hits / (count * (count - 1))
