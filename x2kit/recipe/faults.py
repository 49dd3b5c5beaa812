"""What pydantic found wrong, in words that name the key, the place and what to write instead."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from x2kit.errors import Fault
from x2kit.plugin.registry import Registry
from x2kit.recipe.shapes import bare, field_at, section_at
from x2kit.recipe.yaml_text import Node

Location = tuple[int | str, ...]
_PLURALS: dict[Any, str] = {float: "numbers", int: "whole numbers", str: "texts"}


def faults_of(error: ValidationError, tree: Node, registry: Registry) -> list[Fault]:
    """All faults of a recipe, in the order in which they were found, one a key.

    Args:
        error: what validating the recipe raised.
        tree: the recipe as it was written; its own place stands for keys that nobody wrote.
        registry: the components that keys inside `init_args` belong to.
    """
    faults: dict[str, Fault] = {}
    for item in error.errors(include_url=False):
        location = _written(item["loc"], tree)
        key = ".".join(str(name) for name in location)
        place = str(tree.descend(location)[0].place)
        message = _message(item["type"], item["msg"], item["input"], location, tree, registry)
        if key in faults and faults[key].message != message:
            message = _either(faults[key].message, message)
        faults[key] = Fault(key, place, message)
    return list(faults.values())


def place_of(key: str, tree: Node) -> str:
    """Where a key was written, or else the key that holds it."""
    return str(tree.descend(key.split("."))[0].place)


def nearest(name: str, known: Sequence[str]) -> str:
    """`; nearest: …` if one of the known names is close."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; nearest: {near[0]}" if near else ""


def _written(location: Location, tree: Node) -> Location:
    # Where pydantic tried the arms of a union, its location goes on below the value with the arms' names.
    node, depth = tree.descend(location)
    inside = isinstance(node.value, dict) and depth < len(location)
    return tuple(name for name in location[: depth + inside] if name != "[key]")


def _message(kind: str, text: str, found: Any, location: Location, tree: Node, registry: Registry) -> str:
    path = [str(name) for name in location]
    if kind == "extra_forbidden":
        model = section_at(path[:-1], tree, registry)
        known = list(model.model_fields) if model else []
        return f"unknown key{nearest(path[-1], known)}\n  known: {', '.join(known) or 'none'}"
    if kind in ("missing", "too_short", "too_long") and isinstance(found, list | tuple):
        return _wrong_length(text, found, field_at(path, tree, registry))
    if kind == "missing":
        field = field_at(path, tree, registry)
        return f"missing: {field.description}" if field and field.description else "missing"
    if kind in ("model_type", "dict_type", "dataclass_type"):
        return f"should be settings by name, found {_shown(found)}"
    return value_fault(kind, text, found)


def value_fault(kind: str, text: str, found: Any) -> str:
    """What pydantic says of a value, in words that say what was found.

    Args:
        kind: pydantic's name of the fault.
        text: its message.
        found: the value.
    """
    if kind == "unknown_component" or not text.startswith("Input should "):
        return text.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    # What follows a comma is pydantic's reason, which says less than what was found.
    told, *_ = re.split(r", (?=[a-z])", text.removeprefix("Input should "))
    wanted = told.replace("be a valid", "be a").replace("be a integer", "be an integer")
    wanted = wanted.replace("be a tuple", "be a list")  # what YAML has, and what people write
    hint = ""
    if kind == "literal_error" and isinstance(found, str):
        hint = nearest(found, [name for name in text.split("'") if name.isidentifier() or "-" in name])
    if kind == "string_type" and isinstance(found, int | float):
        hint = "; put it in quotes to make it a text"
    return f"should {wanted}, found {_shown(found)}{hint}"


def _wrong_length(text: str, found: Sequence[Any], field: FieldInfo | None) -> str:
    """A list with too few or too many entries; pydantic calls the entries that a tuple lacks missing keys."""
    annotation = bare(field.annotation) if field else None
    entries = get_args(annotation)
    if get_origin(annotation) is tuple and Ellipsis not in entries:
        wanted = f"{len(entries)} {_PLURALS.get(entries[0], 'entries')}"
    else:
        wanted = " ".join(re.findall(r"at (?:least|most) \d+", text)) or "another length"
    return f"should be a list of {wanted}, found a list of {len(found)}"


def _either(first: str, second: str) -> str:
    if not (first.startswith("should ") and second.startswith("should ")):
        return f"{first}; {second}"
    head, _, found = first.rpartition(", found ")
    return f"{head} or {second.removeprefix('should ').rpartition(', found ')[0]}, found {found}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "settings by name"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + '…"'
