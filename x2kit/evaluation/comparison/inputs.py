"""Say which inputs of several measurements differ: weights, records, settings, recipe, versions. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from x2kit.evaluation.comparison.measurements import Measurement

ABSENT = "absent"
_DESCRIBED_BY_RESULT = ("evaluation", "description", "plugins")
"""Sections of a recipe that are not compared: the result says what was evaluated."""
_HASH = 12
"""Characters shown of a hash."""


class Differing(NamedTuple):
    """An input that is not equal in all measurements.

    Attributes:
        kind: weights, data, evaluation, recipe or versions.
        key: such as `training.seed`.
        values: of each measurement; `ABSENT` where it has none.
    """

    kind: str
    key: str
    values: list[Any]


def differing_inputs(measurements: Sequence[Measurement]) -> list[Differing]:
    """List all inputs that differ, in the order weights, data, evaluation, recipe, versions."""
    kinds = {
        "weights": [dict(_leaves(_weights(one))) for one in measurements],
        "data": [dict(_leaves(_data(one))) for one in measurements],
        "evaluation": [dict(_leaves(_settings(one))) for one in measurements],
        "recipe": [
            dict(_leaves({k: v for k, v in one.recipe.items() if k not in _DESCRIBED_BY_RESULT}))
            for one in measurements
        ],
        "versions": [dict(one.versions) for one in measurements],
    }
    found = []
    for kind, trees in kinds.items():
        if kind == "versions" and not all(trees):
            continue  # converted weights have none
        for key in dict.fromkeys(key for tree in trees for key in tree):
            values = [tree.get(key, ABSENT) for tree in trees]
            if any(value != values[0] for value in values[1:]):
                found.append(Differing(kind, key, values))
    return _without_nested(found)


def _weights(one: Measurement) -> dict[str, Any]:
    checkpoint = one.result["checkpoint"]
    selection = one.result.get("selection") or {}
    return {
        "sha256": str(checkpoint.get("sha256"))[:_HASH],
        "steps": checkpoint.get("steps"),
        "selected_by": f"{selection['metric']} on {selection['split']}" if selection else None,
    }


def _data(one: Measurement) -> dict[str, Any]:
    described = {}
    for task in one.tasks:
        data = one.data(task)
        described[task] = {
            "split": one.result.get("split"),
            "fingerprint": data.get("fingerprint"),
            "records": data.get("records"),
            "source": data.get("source"),
        }
    return described


def _settings(one: Measurement) -> dict[str, Any]:
    return {
        name: {key: task.get(key) for key in ("class_path", "init_args")} for name, task in one.tasks.items()
    }


def _leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, str(name)))
        else:
            yield ".".join((*path, str(name))), value


def _without_nested(found: list[Differing]) -> list[Differing]:
    """Merge keys of a section that only some measurements have into one line that names the section."""
    merged: dict[tuple[str, str, tuple[bool, ...]], list[Differing]] = {}
    for one in found:
        section = ".".join(one.key.split(".")[:3])
        absent = tuple(value is ABSENT for value in one.values)
        place = (one.kind, section if any(absent) and "." in section else one.key, absent)
        merged.setdefault(place, []).append(one)
    return [
        of_section[0]
        if len(of_section) == 1
        else Differing(kind, section, [ABSENT if gone else f"{len(of_section)} keys" for gone in absent])
        for (kind, section, absent), of_section in merged.items()
    ]
