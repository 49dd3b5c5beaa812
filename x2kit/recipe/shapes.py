"""What a recipe key may hold: the schema as a tree that can be walked before anything is validated."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from x2kit.errors import PluginError
from x2kit.plugin.components import ComponentConfig, Kind
from x2kit.plugin.registry import Registry
from x2kit.recipe.schema import Recipe
from x2kit.recipe.yaml_text import Node


@dataclass(frozen=True)
class Section:
    """Fixed keys, the fields of a class."""

    model: type[BaseModel]


@dataclass(frozen=True)
class Entries:
    """Any names, all of one shape: streams, tasks, losses."""

    of: Shape


@dataclass(frozen=True)
class Component:
    """A component: `class_path` and `init_args`, or its name alone."""

    kind: Kind


@dataclass(frozen=True)
class Leaf:
    """A value of this type, or something that only the chosen component can tell."""

    annotation: Any = None


Shape: TypeAlias = Section | Entries | Component | Leaf
ROOT = Section(Recipe)
SECTIONS = tuple(Recipe.model_fields)


def bare(annotation: Any) -> Any:
    """The type without `Annotated` and without `| None`."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        arms = [arm for arm in get_args(annotation) if arm is not type(None)]
        return bare(arms[0]) if len(arms) == 1 else annotation
    return annotation


def shape_of(annotation: Any) -> Shape:
    """The shape of a field's type."""
    inner = bare(annotation)
    if isinstance(inner, type) and issubclass(inner, ComponentConfig):
        return Component(inner.kind)
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return Section(inner)
    if get_origin(inner) is dict:
        return Entries(shape_of(get_args(inner)[1]))
    return Leaf(annotation)


def below(shape: Shape, name: str) -> Shape:
    """The shape of the entry `name`; an empty leaf where there is no such entry."""
    if isinstance(shape, Section):
        field = shape.model.model_fields.get(name)
        return shape_of(field.annotation) if field else Leaf()
    if isinstance(shape, Entries):
        return shape.of
    return Leaf()


def section_at(path: Sequence[str], tree: Node, registry: Registry) -> type[BaseModel] | None:
    """The class whose fields are the keys at this path of a tree; None where keys are free or unknown."""
    shape: Shape = ROOT
    node: Node | None = tree
    for name in path:
        node = node.child(name) if node else None
        if isinstance(shape, Component) and name == "init_args":
            return _settings(path, tree, registry, shape)
        shape = below(shape, name)
    return shape.model if isinstance(shape, Section) else None


def _settings(
    path: Sequence[str], tree: Node, registry: Registry, shape: Component
) -> type[BaseModel] | None:
    at = len(path) - 1 - list(reversed(path)).index("init_args")
    chosen, depth = tree.descend([*path[:at], "class_path"])
    if depth <= at or not isinstance(chosen.value, str):
        return None
    try:
        inner: Shape = Section(registry.get(shape.kind, chosen.value))
    except PluginError:
        return None
    for name in path[at + 1 :]:
        inner = below(inner, name)
    return inner.model if isinstance(inner, Section) else None


def field_at(path: Sequence[str], tree: Node, registry: Registry) -> FieldInfo | None:
    """The field of the class that stands at this path, if a class stands above it."""
    model = section_at(path[:-1], tree, registry) if path else None
    return model.model_fields.get(path[-1]) if model else None
