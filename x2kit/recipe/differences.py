"""What differs between two recipes, by key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from x2kit.recipe.schema import Recipe

ABSENT = "absent"


class Difference(NamedTuple):
    """One key with its two values; `ABSENT` where a recipe has no such key."""

    key: str
    before: Any
    after: Any


def differences(before: Recipe, after: Recipe) -> list[Difference]:
    """All keys whose values differ, in the order of the recipe."""
    old = dict(_leaves(before.model_dump(mode="json")))
    new = dict(_leaves(after.model_dump(mode="json")))
    return [
        Difference(key, old.get(key, ABSENT), new.get(key, ABSENT))
        for key in {**old, **new}
        if old.get(key, ABSENT) != new.get(key, ABSENT)
    ]


def _leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, name))
        else:
            yield ".".join((*path, name)), value
