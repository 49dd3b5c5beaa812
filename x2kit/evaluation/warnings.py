"""Detect problems in a result: chance level, collapsed matching head, unequal counts. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard


def at_chance(share: float, chance: float, trials: int) -> bool:
    """Tell whether a share of hits is at most three standard deviations above chance."""
    return share <= chance + 3 * math.sqrt(chance * (1 - chance) / max(trials, 1))


def warnings_of(result: Mapping[str, Any]) -> list[str]:
    """List a sentence for each problem of a result."""
    warnings = []
    languages = retrieval_rows(result)
    guessed = {
        code: row["mean_r1"]
        for code, row in languages.items()
        if at_chance(row["mean_r1"], row["chance_r1"], row["queries"] + row["image_to_text"]["queries"])
    }
    if guessed:
        chance = max(languages[code]["chance_r1"] for code in guessed)
        warnings.append(
            f"retrieval {_at_chance_level(guessed, len(languages))}: R@1 {_span(guessed, chance)}"
        )
    warnings += _collapsed(languages)
    warnings += _unequal_counts("retrieval", "images", languages, "candidates")
    warnings += _missing_captions(languages)
    selection = result.get("selection") or {}
    if selection and selection.get("split") == result.get("split"):
        warnings.append(
            f"the weights were selected on the split that is measured here, {selection['split']}, as published results "
            "often are; such a result is higher than on records that took no part in training"
        )
    for task, described in (result.get("tasks") or {}).items():
        warnings += _scores_at_chance(task, described.get("result") or {})
    name, grounding = grounding_rows(result)
    warnings += _unequal_counts("grounding", "regions", grounding, "regions")
    missed = {
        code: row[name]
        for code, row in grounding.items()
        if at_chance(row[name], row["chance"], row["regions"])
    }
    if missed:
        chance = max(grounding[code]["chance"] for code in missed)
        warnings.append(
            f"grounding {_at_chance_level(missed, len(grounding))}: found {_span(missed, chance)}"
        )
    if grounding and result.get("grounding_without"):
        warnings.append(
            f"grounding was not measured in {', '.join(result['grounding_without'])}: no region has a text in it"
        )
    return warnings


def _scores_at_chance(task: str, result: Mapping[str, Any]) -> list[str]:
    """Describe languages in which a task measured row by row is not better than chance or the most frequent answer."""
    found: dict[str, float] = {}
    highest = 0.0
    name = result.get("score", "")
    for code, row in (result.get("scores") or {}).items():
        chance = max(row.get("chance") or 0.0, row.get("most_frequent") or 0.0)
        rows = max([value for value in row.values() if isinstance(value, int)], default=0)
        if name in row and 0 < chance < 1 and at_chance(row[name], chance, rows):
            found[code], highest = row[name], max(highest, chance)
    if not found:
        return []
    where = _at_chance_level(found, len(result["scores"]))
    return [f"{task} {where}, or at that of the most frequent answer: {name} {_span(found, highest)}"]


def _collapsed(languages: Mapping[str, Any]) -> list[str]:
    """Describe languages in which the matching head predicts one class for nearly every pair."""
    from x2kit.objectives.matching import describe_collapse  # imports torch

    codes: dict[str, list[str]] = {}
    for code, row in languages.items():
        accuracies = row.get("matching", {})
        positive, negative = accuracies.get("positive_accuracy"), accuracies.get("negative_accuracy")
        if positive is None or negative is None:
            continue
        if collapse := describe_collapse(positive, negative):
            codes.setdefault(collapse, []).append(code)
    return [f"the matching head {collapse}; in {', '.join(found)}" for collapse, found in codes.items()]


def _unequal_counts(task: str, noun: str, rows: Mapping[str, Any], key: str) -> list[str]:
    counts = {code: row[key] for code, row in rows.items() if key in row}
    if len(set(counts.values())) < 2:
        return []
    most = max(counts.values())
    fewer = ", ".join(f"{code} {count}" for code, count in counts.items() if count < most)
    return [
        f"{task}: languages are measured on different numbers of {noun} ({fewer}; others {most}), so rows and means "
        "are not comparable; set common_subset: true in the task"
    ]


def _missing_captions(rows: Mapping[str, Any]) -> list[str]:
    """Describe languages with fewer captions of an image than the published set has (CCLM repository, issue 3)."""
    counts = {code: row.get("captions_per_image") or {} for code, row in rows.items()}
    fewer = [
        f"{code} {count['fewest']} of {count['expected']}"
        for code, count in counts.items()
        if count.get("expected") is not None and count["fewest"] < count["expected"]
    ]
    if not fewer:
        return []
    return [
        f"retrieval: images have fewer captions than in the published set ({', '.join(fewer)}), so recall cannot be "
        "compared with published numbers; complete the annotation files, or change captions in the task"
    ]


def _at_chance_level(codes: Mapping[str, float], measured: int) -> str:
    where = "every language" if len(codes) == measured > 1 else ", ".join(codes)
    return f"is at chance level in {where}"


def _span(shares: Mapping[str, float], chance: float) -> str:
    low, high = min(shares.values()), max(shares.values())
    return f"{low:.3f}{f' to {high:.3f}' if high > low else ''}, chance {chance:.2g}"


def retrieval_rows(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the rows of Retrieval by language; empty if it was not measured.

    A plugin's task may use the key `languages` for other content, which is ignored.
    """
    rows = result.get("languages")
    return rows if _all_have(rows, ("mean_r1", "chance_r1", "image_to_text", "text_to_image")) else {}


def grounding_rows(result: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return the key of the share of hits, for example iou50, and the rows of Grounding by language, if any."""
    limit, rows = result.get("grounding_iou"), result.get("grounding")
    name = f"iou{round(100 * limit)}" if isinstance(limit, int | float) else ""
    return name, rows if _all_have(rows, (name, "chance", "regions")) else {}


def _all_have(rows: Any, keys: tuple[str, ...]) -> TypeGuard[Mapping[str, Any]]:
    if not isinstance(rows, Mapping):
        return False
    return all(isinstance(row, Mapping) and all(key in row for key in keys) for row in rows.values())
