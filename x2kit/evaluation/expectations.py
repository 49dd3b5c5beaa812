"""Published numbers that a recipe carries, beside the numbers of a result. Imports no torch.

`evaluation.expectations` of a recipe is copied to the result, so that a result says what was published for its
conditions wherever it goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def numbers_of_task(result: Mapping[str, Any], task: str) -> Mapping[str, Any]:
    """Return the numbers of one task of a result: a part of it, or all of it for a task that shares the top level."""
    found = result["tasks"][task].get("result", result)
    return found if isinstance(found, Mapping) else {}


def data_of(result: Mapping[str, Any], task: str) -> Mapping[str, Any]:
    """Return settings, fingerprint and number of the records that a task was measured on."""
    described: Mapping[str, Any] = result.get("data") or {}
    sources: Mapping[str, Mapping[str, Any]] = described.get("sources") or {}
    return sources.get(task, described)


def number_at(tree: Any, path: str) -> float | None:
    """Return the number at a dotted path; None if there is none."""
    for name in path.split("."):
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return float(tree) if isinstance(tree, int | float) and not isinstance(tree, bool) else None


def flat_numbers(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of nested mappings with their dotted paths."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat_numbers(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", float(value)


def incomparable(result: Mapping[str, Any], data: Mapping[str, Any], expectation: Mapping[str, Any]) -> str:
    """Say why a published number was measured on other records; empty if nothing shows it.

    Args:
        result: of the run.
        data: describes the records of the task in the result.
        expectation: plain values of it.
    """
    split, records = expectation.get("split"), expectation.get("records")
    if split is not None and result.get("split") != split:
        return f"published for the split {split}, measured on {result.get('split')}"
    if records is not None and data.get("records") != records:
        return f"published for {records:,} records, measured on {data.get('records')}"
    return ""


def published_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each published model: reached beside published, or why they cannot be compared.

    Nothing says whether a difference is large: `x2kit results` has intervals.
    """
    expectations: Mapping[str, Mapping[str, Any]] = result.get("expectations") or {}
    for one in expectations.values():
        task = one["task"]
        if task not in (result.get("tasks") or {}):
            continue
        numbers = numbers_of_task(result, task)
        heading = f"published for {one['model']} ({one['source']})"
        if reason := incomparable(result, data_of(result, task), one):
            yield f"{heading}: not compared, {reason}"
            continue
        yield f"{heading}, reached − published:"
        for path, value in flat_numbers(one["values"]):
            reached = number_at(numbers, path)
            shown = "not in this result" if reached is None else f"{100 * (reached - value):+.1f}"
            yield f"  {path} {100 * value:.1f}: {shown}"
        if one.get("note"):
            yield f"  {one['note']}"
    if expectations:
        yield "intervals of these differences: x2kit results RUN"
