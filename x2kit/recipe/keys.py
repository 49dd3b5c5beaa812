"""Describe recipe keys (type, default, meaning) for help and reference pages."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from x2kit.plugin.choice import PathOrName, PathOrUrl
from x2kit.plugin.components import ComponentConfig
from x2kit.recipe.yaml_text import inline

_BOUNDS = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}", "multiple_of": "multiple of {}"}


class KeyFacts(NamedTuple):
    """One key.

    Attributes:
        name: name within its section.
        type: readable type with bounds: "int, > 0".
        default: the default as YAML; None if the key is required.
        description: meaning of the key.
    """

    name: str
    type: str
    default: str | None
    description: str


def keys_of(model: type[BaseModel]) -> list[KeyFacts]:
    """List the keys of a section or component in order of definition."""
    return [_facts(name, field) for name, field in model.model_fields.items()]


def type_name(annotation: Any) -> str:
    """Format a type annotation for readers."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _marker_type(arguments[1:]) or type_name(arguments[0])
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(type_name(arm) for arm in arguments))
    if origin is Literal:
        return " | ".join(str(choice) for choice in arguments)
    if origin in (list, set, frozenset) or (origin is tuple and arguments[-1] is Ellipsis):
        return f"list of {type_name(arguments[0])}"
    if origin is tuple:
        return f"[{', '.join(type_name(item) for item in arguments)}]"
    if origin is dict:
        return f"{type_name(arguments[1])} by name"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, ComponentConfig):
        return f"{annotation.kind} component"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "settings"
    name = getattr(annotation, "__name__", str(annotation))
    return {"str": "text", "Path": "path", "Any": "value"}.get(name, name)


def _marker_type(metadata: Iterable[Any]) -> str | None:
    """Format the type of a string field marked as path, name or URL."""
    words = {PathOrName: "name or path", PathOrUrl: "path or URL"}
    return next((words[type(item)] for item in metadata if type(item) in words), None)


def _facts(name: str, field: FieldInfo) -> KeyFacts:
    parts = [_marker_type(field.metadata) or type_name(field.annotation)]
    for bound in field.metadata:
        parts += [text.format(getattr(bound, key)) for key, text in _BOUNDS.items() if hasattr(bound, key)]
    return KeyFacts(name, ", ".join(parts), _default(field), field.description or "")


def _default(field: FieldInfo) -> str | None:
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, ComponentConfig):
        return value.component_name()
    if isinstance(value, BaseModel):
        return "see its keys"
    if isinstance(value, tuple | set | frozenset):
        value = list(value)
    return inline(value if isinstance(value, bool | int | float | str | list | dict | None) else str(value))
