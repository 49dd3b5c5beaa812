"""Parse merged recipes with jsonargparse, using the typed classes. Imports no torch.

Component names are replaced by import paths from the registry. jsonargparse then checks types and instantiates
components, sections and the recipe. It stops at the first error; pydantic validates the values again to report all.
"""

from __future__ import annotations

import json
import pkgutil
from argparse import ArgumentError
from collections.abc import Mapping
from functools import cache
from types import NoneType
from typing import Any, get_args

from jsonargparse import ArgumentParser, set_loader, set_parsing_settings
from pydantic import BaseModel, ValidationError

from x2kit.errors import Fault, PluginError, RecipeError
from x2kit.plugin.choice import context_of, split_choice
from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.registry import Registry
from x2kit.recipe.faults import faults_of
from x2kit.recipe.schema import ROOT, Component, Entries, Recipe, Section, Shape, shape_of
from x2kit.recipe.yaml_text import Node

set_parsing_settings(subclasses_enabled=[ComponentConfig])
set_loader("x2kit-recipe", lambda text: text)  # a quoted value stays a string


class _UnexpectedValueError(Exception):
    """A value that jsonargparse rejects or would parse differently from recipes."""


def parse_recipe(tree: Node, registry: Registry) -> Recipe:
    """Parse a merged tree into a recipe.

    Args:
        tree: keys and values with shorthands expanded, see `x2kit.recipe.merging`.
        registry: resolves component names.
    Raises: RecipeError with every fault found, each with key and place.
    """
    parser = _parser()
    try:
        values = _with_import_paths(tree.plain(), ROOT, registry)
        parsed = parser.parse_object({"recipe": values}, defaults=False, env=False)
        recipe: Recipe = parser.instantiate(parsed).recipe
    except (_UnexpectedValueError, ArgumentError, ValidationError) as error:
        raise RecipeError(_faults(error, tree, registry)) from error
    return recipe


@cache
def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, parser_mode="x2kit-recipe")
    parser.add_class_arguments(Recipe, "recipe")
    return parser


def _faults(error: Exception, tree: Node, registry: Registry) -> list[Fault]:
    context = context_of(registry)
    try:
        Recipe.model_validate(tree.plain(), context=context)
        # jsonargparse is stricter than pydantic: 3.0 is not an int
        Recipe.model_validate_json(json.dumps(tree.plain()), strict=True, context=context)
    except ValidationError as invalid:
        return faults_of(invalid, tree, registry)
    return [Fault("", str(tree.place), str(error))]


def _with_import_paths(value: Any, shape: Shape, registry: Registry) -> Any:
    if isinstance(shape, Component):
        return _choice(value, shape, registry)
    if isinstance(shape, Section):
        return _section(value, shape.model, registry)
    if isinstance(shape, Entries) and isinstance(value, Mapping):
        return {name: _with_import_paths(item, shape.of, registry) for name, item in value.items()}
    return value


def _section(value: Any, model: type[BaseModel], registry: Registry) -> Any:
    fields = model.model_fields
    if not isinstance(value, Mapping) or not set(value) <= set(fields):
        raise _UnexpectedValueError(f"expected keys of {model.__name__}, found {value!r}")
    return {
        name: None
        if item is None and NoneType in get_args(fields[name].annotation)
        else _with_import_paths(item, shape_of(fields[name].annotation), registry)
        for name, item in value.items()
    }


def _choice(value: Any, shape: Component, registry: Registry) -> Any:
    try:
        name, settings = split_choice(value)
        component = registry.get(shape.kind, name)
    except (ValueError, PluginError) as error:
        raise _UnexpectedValueError(str(error)) from error
    path = f"{component.__module__}.{component.__qualname__}"
    if not _is_importable(path, component):  # a class defined in a function
        return component.model_validate(settings, context=context_of(registry))
    return {"class_path": path, "init_args": _section(settings, component, registry)}


def _is_importable(path: str, component: type[ComponentConfig]) -> bool:
    try:
        return pkgutil.resolve_name(path) is component
    except (ImportError, AttributeError, ValueError):
        return False
