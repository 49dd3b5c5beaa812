from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from x2kit.plugin import Location, NameOrPath, VisionEncoderConfig
from x2kit.recipe import Recipe
from x2kit.recipe.keys import keys_of, type_name
from x2kit.recipe.schema import Component, Entries, Section, shape_of


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (int, "int"),
        (str | None, "text | null"),
        (Literal["a", "b"], "a | b"),
        (tuple[float, float], "[float, float]"),
        (tuple[str, ...] | None, "list of text | null"),
        (list[Path], "list of path"),
        (dict[str, int], "int by name"),
        (NameOrPath, "name or path"),
        (Location, "path or URL"),
        (tuple[Location, ...] | None, "list of path or URL | null"),
        (VisionEncoderConfig, "vision component"),
        (Annotated[VisionEncoderConfig, 1] | None, "vision component | null"),
    ],
)
def test_types_are_named_for_readers(annotation: Any, name: str) -> None:
    assert type_name(annotation) == name


def test_keys_have_bounds_default_and_description() -> None:
    class Settings(BaseModel):
        size: int = Field(4, gt=0, le=9, multiple_of=2, description="how large")
        name: NameOrPath
        parts: tuple[str, ...] = ("a", "no")

    size, name, parts = keys_of(Settings)
    assert size == ("size", "int, > 0, ≤ 9, multiple of 2", "4", "how large")
    assert (name.type, name.default) == ("name or path", None)
    assert parts.default == "[a, 'no']"


def every_section(model: type[BaseModel], path: str = "") -> list[tuple[str, type[BaseModel]]]:
    found = [(path, model)]
    for name, field in model.model_fields.items():
        shape = shape_of(field.annotation)
        while isinstance(shape, Entries):
            shape = shape.of
        if isinstance(shape, Section):
            found += every_section(shape.model, f"{path}.{name}")
    return found


def test_every_key_of_the_recipe_has_a_description() -> None:
    sections = every_section(Recipe)
    assert len(sections) >= 9
    bare = [f"{path}.{key.name}" for path, model in sections for key in keys_of(model) if not key.description]
    assert bare == []


def test_the_schema_locates_components() -> None:
    found = [
        f"{path}.{name}".lstrip(".")
        for path, model in every_section(Recipe)
        for name, field in model.model_fields.items()
        if isinstance(shape_of(field.annotation), Component)
        or shape_of(field.annotation) == Entries(Component("task"))
    ]
    assert found == [
        "model.vision",
        "model.text",
        "model.fusion",
        "data.streams.task",
        "data.streams.source",
        "training.optimizer",
        "evaluation.source",
        "evaluation.tasks",
        "evaluation.select_source",
    ]
