"""Convert pydantic errors to faults: key, place, value found, values allowed."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from x2kit.errors import Fault
from x2kit.plugin.registry import Registry
from x2kit.recipe.schema import bare, field_at, section_at
from x2kit.recipe.yaml_text import Node

Location = tuple[int | str, ...]
_PLURALS: dict[Any, str] = {float: "numbers", int: "whole numbers", str: "strings"}

_EXPECTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "be an integer"),
    **dict.fromkeys(("float_type", "float_parsing"), "be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "be true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "be a list"),
    **dict.fromkeys(("model_type", "dict_type", "mapping_type", "dataclass_type"), "be a mapping"),
    **dict.fromkeys(("literal_error", "enum"), "be {expected}"),
    "string_type": "be a string",
    "path_type": "be a path",
    "none_required": "be null",
    "finite_number": "be a finite number",
    "greater_than": "be greater than {gt}",
    "greater_than_equal": "be greater than or equal to {ge}",
    "less_than": "be less than {lt}",
    "less_than_equal": "be less than or equal to {le}",
    "multiple_of": "be a multiple of {multiple_of}",
    "too_short": "have {min_length} or more entries",
    "too_long": "have {max_length} or fewer entries",
    "string_too_short": "have {min_length} or more characters",
    "string_too_long": "have {max_length} or fewer characters",
    "string_pattern_mismatch": "match {pattern}",
}
"""Expected value by pydantic error type; the placeholders are filled from the error's context."""


def faults_of(error: ValidationError, tree: Node, registry: Registry) -> list[Fault]:
    """Convert a validation error to faults, one per key, in pydantic's order.

    Args:
        error: raised by validating the recipe.
        tree: the recipe as written; for a key that is not written, the place of its parent is reported.
        registry: components, for keys inside `init_args`.
    """
    faults: dict[str, Fault] = {}
    for item in error.errors(include_url=False):
        location = _key_path(item["loc"], tree)
        key = ".".join(str(name) for name in location)
        place = str(tree.descend(location)[0].place)
        message = _message(item, location, tree, registry)
        if key in faults and faults[key].message != message:
            message = _alternatives(faults[key].message, message)
        faults[key] = Fault(key, place, message)
    return list(faults.values())


def place_of(key: str, tree: Node) -> str:
    """Return the place of a key, or of its nearest parent that is written."""
    return str(tree.descend(key.split("."))[0].place)


def nearest(name: str, known: Sequence[str]) -> str:
    """Format the closest known name as `; nearest: NAME`; empty if none is close."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; nearest: {near[0]}" if near else ""


def _key_path(location: Location, tree: Node) -> Location:
    # For a union, pydantic appends the names of its members to the location.
    node, depth = tree.descend(location)
    inside = isinstance(node.value, dict) and depth < len(location)
    return tuple(name for name in location[: depth + inside] if name != "[key]")


def _message(item: ErrorDetails, location: Location, tree: Node, registry: Registry) -> str:
    kind, found, context = item["type"], item["input"], item.get("ctx", {})
    path = [str(name) for name in location]
    if kind == "extra_forbidden":
        model = section_at(path[:-1], tree, registry)
        known = list(model.model_fields) if model else []
        return f"unknown key{nearest(path[-1], known)}\n  known: {', '.join(known) or 'none'}"
    if kind in ("missing", "too_short", "too_long") and isinstance(found, list | tuple):
        return _wrong_length(context, found, field_at(path, tree, registry))
    if kind == "missing":
        field = field_at(path, tree, registry)
        return f"missing: {field.description}" if field and field.description else "missing"
    return value_fault(item)


def value_fault(item: ErrorDetails) -> str:
    """Describe the expected and the found value from the error's type and context."""
    kind, found, context = item["type"], item["input"], item.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return str(context["error"])
    if kind not in _EXPECTED:  # a custom error of a component, or a type that no setting uses today
        return item["msg"]
    expected = _EXPECTED[kind].format_map({name: _plain(value) for name, value in context.items()})
    hint = ""
    if kind in ("literal_error", "enum") and isinstance(found, str):
        hint = nearest(found, re.findall(r"'([^']*)'", context["expected"]))
    if kind == "string_type" and isinstance(found, int | float):
        hint = "; quote it to make it a string"
    return f"should {expected}, found {_preview(found)}{hint}"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _wrong_length(context: Mapping[str, Any], found: Sequence[Any], field: FieldInfo | None) -> str:
    """Describe a list of the wrong length; pydantic reports missing tuple entries as `missing`."""
    annotation = bare(field.annotation) if field else None
    entries = get_args(annotation)
    if get_origin(annotation) is tuple and Ellipsis not in entries:
        wanted = f"{len(entries)} {_PLURALS.get(entries[0], 'entries')}"
    else:
        bounds = [("at least", "min_length"), ("at most", "max_length")]
        wanted = " ".join(f"{word} {context[name]}" for word, name in bounds if name in context)
    return f"should be a list of {wanted}, found a list of {len(found)}"


def _alternatives(first: str, second: str) -> str:
    if not (first.startswith("should ") and second.startswith("should ")):
        return f"{first}; {second}"
    head, _, found = first.rpartition(", found ")
    return f"{head} or {second.removeprefix('should ').rpartition(', found ')[0]}, found {found}"


def _preview(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + '…"'
