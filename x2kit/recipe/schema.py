"""Define the recipe and describe its keys as a tree of shapes. Imports no torch.

`Recipe` is the class that a recipe file is parsed into. `Shape` describes what a key may hold (fixed keys, free
names, a component or a value), so that a tree of plain values can be walked before it is validated.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from x2kit.data.config import DataConfig
from x2kit.errors import PluginError
from x2kit.evaluation.config import EvaluationConfig
from x2kit.model.config import ModelConfig
from x2kit.plugin.choice import FROM_HERE, HARMLESS
from x2kit.plugin.components import ComponentConfig, Kind
from x2kit.plugin.registry import Registry
from x2kit.recipe.yaml_text import Node, to_yaml
from x2kit.training.config import TrainingConfig


class Recipe(BaseModel):
    """Settings of a run: model, data, training and evaluation.

    A recipe may have `model` alone, as that of converted weights has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: Annotated[str, HARMLESS] = Field("", description="purpose of the recipe in one sentence")
    plugins: Annotated[tuple[str, ...], FROM_HERE] = Field(
        (), description="additional plugins: Python files or importable modules"
    )
    model: ModelConfig = Field(description="the three encoders and the heads")
    data: DataConfig = Field(DataConfig(), description="streams of training data")
    training: TrainingConfig = Field(TrainingConfig(), description="optimiser, schedule, device, checkpoints")
    evaluation: Annotated[EvaluationConfig | None, HARMLESS] = Field(
        None, description="evaluation tasks and their data; null for none"
    )

    def to_yaml(self) -> str:
        """Dump the recipe as YAML, including defaults; reading it gives an equal recipe."""
        return to_yaml(self.model_dump(mode="json"))


@dataclass(frozen=True)
class Section:
    """A mapping with fixed keys, the fields of a class."""

    model: type[BaseModel]


@dataclass(frozen=True)
class Entries:
    """A mapping with free names whose values share one shape: streams, tasks, losses; `nullable` if it may be null."""

    of: Shape
    nullable: bool = False


@dataclass(frozen=True)
class Component:
    """A component: its name, or `class_path` and `init_args`."""

    kind: Kind


@dataclass(frozen=True)
class Leaf:
    """A value; its type is None if it depends on the chosen component."""

    annotation: Any = None


Shape: TypeAlias = Section | Entries | Component | Leaf
ROOT = Section(Recipe)
SECTIONS = tuple(Recipe.model_fields)


def bare(annotation: Any) -> Any:
    """Remove `Annotated` and `| None` from a type."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        arms = [arm for arm in get_args(annotation) if arm is not type(None)]
        return bare(arms[0]) if len(arms) == 1 else annotation
    return annotation


def shape_of(annotation: Any) -> Shape:
    """Return the shape of a field's type."""
    inner = bare(annotation)
    if isinstance(inner, type) and issubclass(inner, ComponentConfig):
        return Component(inner.kind)
    if isinstance(inner, type) and issubclass(inner, BaseModel):
        return Section(inner)
    if get_origin(inner) is dict:
        return Entries(shape_of(get_args(inner)[1]), type(None) in get_args(annotation))
    return Leaf(annotation)


def below(shape: Shape, name: str) -> Shape:
    """Return the shape of the entry `name`; an untyped leaf if there is none."""
    if isinstance(shape, Section):
        field = shape.model.model_fields.get(name)
        return shape_of(field.annotation) if field else Leaf()
    if isinstance(shape, Entries):
        return shape.of
    return Leaf()


def section_at(path: Sequence[str], tree: Node, registry: Registry) -> type[BaseModel] | None:
    """Return the class whose fields are the keys at a path; None if keys are free or unknown."""
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
    """Return the field at a path; None if its section is not a class."""
    model = section_at(path[:-1], tree, registry) if path else None
    return model.model_fields.get(path[-1]) if model else None
