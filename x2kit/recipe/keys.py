"""What can be said of a recipe key: its type, its default, its meaning. For help and reference pages."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from x2kit.plugin.components import ComponentConfig, PathOrName, PathOrUrl

_BOUNDS = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}", "multiple_of": "multiple of {}"}


class KeyFacts(NamedTuple):
    """One key.

    Attributes:
        name: within its section.
        type: as people write it, with bounds: "int, > 0".
        default: as YAML; None if the key must be given.
        description: what it means.
    """

    name: str
    type: str
    default: str | None
    description: str


def keys_of(model: type[BaseModel]) -> list[KeyFacts]:
    """The keys of a section or the settings of a component, in order."""
    return [_facts(name, field) for name, field in model.model_fields.items()]


def type_name(annotation: Any) -> str:
    """A type as people write it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _marked(arguments[1:]) or type_name(arguments[0])
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


def _marked(metadata: Iterable[Any]) -> str | None:
    """What a text stands for, where its type says so."""
    words = {PathOrName: "name or path", PathOrUrl: "path or URL"}
    return next((words[type(item)] for item in metadata if type(item) in words), None)


def _facts(name: str, field: FieldInfo) -> KeyFacts:
    parts = [_marked(field.metadata) or type_name(field.annotation)]
    for bound in field.metadata:
        parts += [text.format(getattr(bound, key)) for key, text in _BOUNDS.items() if hasattr(bound, key)]
    return KeyFacts(name, ", ".join(parts), _default(field), field.description or "")


def _default(field: FieldInfo) -> str | None:
    from x2kit.recipe.yaml_text import inline

    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "see its keys"
    if isinstance(value, tuple | set | frozenset):
        value = list(value)
    return inline(value if isinstance(value, bool | int | float | str | list | dict | None) else str(value))
