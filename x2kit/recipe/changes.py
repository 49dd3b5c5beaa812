"""Compare two recipes key by key, and classify changes on resume. Imports no torch.

`differences` compares values. `changes` adds the `OnResume` mark of each key, which says whether a resumed run may
change it; `marked_keys` lists the keys that have one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel

from x2kit.plugin.choice import OnResume
from x2kit.plugin.components import ComponentConfig
from x2kit.recipe.keys import keys_of
from x2kit.recipe.schema import ROOT, Entries, Recipe, Section, Shape, below

ABSENT = "absent"


class Difference(NamedTuple):
    """A key and its two values; `ABSENT` if a recipe has no such key."""

    key: str
    before: Any
    after: Any


def differences(before: Recipe, after: Recipe) -> list[Difference]:
    """List all keys whose values differ, in recipe order."""
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


class Change(NamedTuple):
    """A changed key and its `OnResume` mark; None if a resumed run must not change it."""

    difference: Difference
    mark: OnResume | None


def changes(before: Recipe, after: Recipe) -> list[Change]:
    """List all changed keys with their marks, in recipe order."""
    return [
        Change(difference, mark_of(after, difference.key) or mark_of(before, difference.key))
        for difference in differences(before, after)
    ]


def mark_of(recipe: Recipe, key: str) -> OnResume | None:
    """Return the mark of a key or of the nearest marked key above it, if any."""
    value: Any = recipe
    for name in key.split("."):
        if isinstance(value, ComponentConfig) and name == "init_args":
            continue
        if isinstance(value, BaseModel):
            field = type(value).model_fields.get(name)
            for item in field.metadata if field else ():
                if isinstance(item, OnResume):
                    return item
            value = getattr(value, name, None)
        elif isinstance(value, dict):
            value = value.get(name)
        else:
            return None
    return None


def marked_keys(shape: Shape = ROOT, path: str = "") -> Iterator[tuple[str, OnResume]]:
    """Yield each marked key outside components with its mark; NAME replaces a free name."""
    if isinstance(shape, Entries):
        yield from marked_keys(shape.of, f"{path}NAME.")
    if not isinstance(shape, Section):
        return
    for facts in keys_of(shape.model):
        marks = [item for item in shape.model.model_fields[facts.name].metadata if isinstance(item, OnResume)]
        if marks:
            yield path + facts.name, marks[0]
        else:
            yield from marked_keys(below(shape, facts.name), f"{path}{facts.name}.")
