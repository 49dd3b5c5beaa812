"""What a reader of a result must not overlook. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def at_chance(share: float, chance: float, trials: int) -> bool:
    """Whether a share of hits is within three standard deviations of guessing, or below it."""
    return share <= chance + 3 * math.sqrt(chance * (1 - chance) / max(trials, 1))


def warnings_of(result: Mapping[str, Any]) -> list[str]:
    """One sentence for each thing that needs saying: results at chance level, languages that were not compared."""
    found = []
    for code, language in result.get("languages", {}).items():
        trials = language["queries"] + language["image_to_text"]["queries"]
        if at_chance(language["mean_r1"], language["chance_r1"], trials):
            found.append(
                f"{code}: retrieval is at chance level (R@1 {language['mean_r1']:.3f}, "
                f"chance {language['chance_r1']:.3f}, {language['queries']} queries)"
            )
    name = boxes_column(result)
    for code, boxes in result.get("boxes", {}).items():
        if name and at_chance(boxes[name], boxes["chance"], boxes["regions"]):
            found.append(
                f"{code}: boxes are at chance level ({boxes[name]:.3f}, chance {boxes['chance']:.3f}, "
                f"{boxes['regions']} regions)"
            )
    return found


def boxes_column(result: Mapping[str, Any]) -> str | None:
    """The key under which the share of found boxes stands, for example iou50; None if none were measured."""
    return f"iou{round(100 * result['boxes_iou'])}" if result.get("boxes") else None
