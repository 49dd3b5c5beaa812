"""Measure where heat maps and boxes point: `python -m tests.benchmarks.heat_maps RUN`, a run of the quickstart.

The built-in test scenes, two emoji of each, named in several languages. A map points right if its maximum lies in the
box of the named emoji (the pointing game, arXiv:1608.00507). A box is right if its IoU with that box is above 0.3.
Chance: a point drawn uniformly; the box of another emoji of the set.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_convert, box_iou
from x2kit_emoji import EmojiScenes

import x2kit
from x2kit.inference.results import Box

LANGUAGES = ("en", "de", "ru", "ja", "ar")
TRUE_IOU = 0.3
CANDIDATES = 5


class Phrase(NamedTuple):
    """A named emoji: its image, names by language, and box x, y, width, height in [0, 1]."""

    image: Image.Image
    caption: dict[str, str]
    names: dict[str, str]
    box: Sequence[float]


def read_phrases(scenes: int, seed: int = 1) -> list[Phrase]:
    """Read the first two emoji of each scene."""
    source = EmojiScenes(split="test", seed=seed, size=500).open()
    return [
        Phrase(
            record["image"],
            record["caption"],
            region["caption"],
            [value / record["image"].width for value in region["bbox"]],
        )
        for record in (source[number] for number in range(scenes))
        for region in record["regions"][:2]
    ]


def chance(phrases: Sequence[Phrase]) -> dict[str, float]:
    """Compute the chance levels of pointing and of a box."""
    boxes = corners([phrase.box for phrase in phrases])
    hits = (box_iou(boxes, boxes) > TRUE_IOU).double()
    count = len(boxes)
    return {
        "pointing": fmean(phrase.box[2] * phrase.box[3] for phrase in phrases),
        "box": float(hits.sum() - count) / (count * (count - 1)),
    }


def corners(boxes: Sequence[Sequence[float]]) -> Tensor:
    """Convert x, y, width, height to corners."""
    return box_convert(torch.tensor(boxes, dtype=torch.float64), "xywh", "xyxy")


def points_right(heat: Any, box: Sequence[float]) -> bool:
    """Whether the centre of the hottest patch lies in a box."""
    rows, columns = heat.shape
    row, column = divmod(int(heat.argmax()), columns)
    x, y = (column + 0.5) / columns, (row + 0.5) / rows
    return box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]


def overlap(box: Box, truth: Sequence[float]) -> float:
    """IoU of a predicted box."""
    return float(box_iou(corners([box.relative]), corners([truth])))


@contextmanager
def without_attention(model: x2kit.Model) -> Iterator[None]:
    """Let the fusion encoder declare no attention, so that maps are computed by occlusion."""
    layers, model.module.fusion.attention_layers = model.module.fusion.attention_layers, 0
    try:
        yield
    finally:
        model.module.fusion.attention_layers = layers


def explained(model: x2kit.Model, phrases: Sequence[Phrase], language: str) -> dict[str, float]:
    """Measure the maps of the names."""
    found = [(model.explain(phrase.image, phrase.names[language]), phrase.box) for phrase in phrases]
    boxes = [overlap(each.box, truth) for each, truth in found]
    return {
        "pointing": fmean(points_right(each.heat, truth) for each, truth in found),
        "box": fmean(iou > TRUE_IOU for iou in boxes),
        "iou": fmean(boxes),
    }


def words(model: x2kit.Model, phrases: Sequence[Phrase], language: str) -> dict[str, float]:
    """Measure the maps of words in captions, of names that are one word."""
    hits = []
    for phrase in phrases:
        found = model.explain(phrase.image, phrase.caption[language])
        named = [each for each in found.words if each.word == phrase.names[language]]
        hits += [points_right(each.heat, phrase.box) for each in named[:1]]
    return {"pointing": fmean(hits), "words": len(hits)}


def located(model: x2kit.Model, phrases: Sequence[Phrase], language: str) -> dict[str, float]:
    """Measure the first box of `locate`, and the best of several candidates."""
    first, best, count = [], [], []
    for phrase in phrases:
        boxes = model.locate(phrase.image, phrase.names[language], CANDIDATES).boxes
        overlaps = [overlap(box, phrase.box) for box in boxes]
        first.append(overlaps[0])
        best.append(max(overlaps))
        count.append(len(boxes))
    return {
        "box": fmean(iou > TRUE_IOU for iou in first),
        "iou": fmean(first),
        "best_iou": fmean(best),
        "best_box": fmean(iou > TRUE_IOU for iou in best),
        "boxes": fmean(count),
    }


def without_box_head(model: x2kit.Model, phrases: Sequence[Phrase], language: str) -> dict[str, float]:
    """Measure `locate` as if the model had no box head."""
    head = model.module.bbox_head
    del model.module.bbox_head
    try:
        return located(model, phrases, language)
    finally:
        model.module.bbox_head = head


def main() -> None:
    """Print a row for each way and language."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--scenes", type=int, default=100)
    given = parser.parse_args()
    model, phrases = x2kit.load(given.run), read_phrases(given.scenes)
    print(f"{len(phrases)} phrases of {given.scenes} scenes; chance: {chance(phrases)}")
    ways: dict[str, Callable[[x2kit.Model, Sequence[Phrase], str], dict[str, float]]] = {
        "map of the name": explained,
        "map of the word in the caption": words,
    }
    for language in LANGUAGES:
        for name, way in ways.items():
            print(language, f"attention, {name}", _shown(way(model, phrases, language)), flush=True)
            with without_attention(model):
                print(language, f"occlusion, {name}", _shown(way(model, phrases, language)), flush=True)
        print(language, "locate", _shown(located(model, phrases, language)), flush=True)
        print(
            language,
            "locate without box head",
            _shown(without_box_head(model, phrases, language)),
            flush=True,
        )


def _shown(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in found.items())


if __name__ == "__main__":
    main()
