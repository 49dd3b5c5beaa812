"""Resolve relative paths in recipes against the file that contains them."""

from __future__ import annotations

import os
import types
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from x2kit.data.storage.locations import is_url
from x2kit.errors import PluginError
from x2kit.plugin.choice import PathOrName, PathOrUrl
from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.loading.file_modules import is_path
from x2kit.plugin.registry import Registry
from x2kit.recipe.schema import Recipe
from x2kit.recipe.yaml_text import Node, Place


def absolute(tree: Node, registry: Registry) -> Node:
    """Make every relative path of a recipe absolute; annotations mark which values are paths."""
    return _section(tree, Recipe, registry)


def absolute_plugin(name: str, place: Place) -> str:
    """Make a file in `plugins` absolute; module names are returned unchanged."""
    return _joined(name, place) if is_path(name) else name


def _section(node: Node, model: type[BaseModel], registry: Registry) -> Node:
    if not isinstance(node.value, dict):
        return node
    fields = model.model_fields
    return Node(
        {
            name: _rebased(item, _with_metadata(fields[name]), registry) if name in fields else item
            for name, item in node.value.items()
        },
        node.place,
    )


def _with_metadata(field: FieldInfo) -> Any:
    # pydantic strips the outermost Annotated, so the marker may be in the field's metadata.
    mark = next((item for item in field.metadata if isinstance(item, PathOrName | PathOrUrl)), None)
    return field.annotation if mark is None else Annotated[field.annotation, mark]


def _rebased(node: Node, annotation: Any, registry: Registry) -> Node:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        if isinstance(node.value, str) and any(isinstance(item, PathOrName) for item in arguments[1:]):
            return Node(_name_or_path(node.value, node.place), node.place)
        if isinstance(node.value, str) and any(isinstance(item, PathOrUrl) for item in arguments[1:]):
            return node if is_url(node.value) else Node(_joined(node.value, node.place), node.place)
        return _rebased(node, arguments[0], registry)
    if origin in (Union, types.UnionType):
        for member in arguments:
            changed = _rebased(node, member, registry)
            if changed is not node:
                return changed
        return node
    if isinstance(annotation, type) and issubclass(annotation, Path) and isinstance(node.value, str):
        return Node(_joined(node.value, node.place), node.place)
    if isinstance(annotation, type) and issubclass(annotation, ComponentConfig):
        return _component(node, annotation, registry)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _section(node, annotation, registry)
    if origin is dict and isinstance(node.value, dict):
        entries = {name: _rebased(item, arguments[1], registry) for name, item in node.value.items()}
        return Node(entries, node.place)
    if arguments and isinstance(node.value, list):
        return Node([_rebased(item, arguments[0], registry) for item in node.value], node.place)
    return node


def _component(node: Node, base: type[ComponentConfig], registry: Registry) -> Node:
    if node.replaced is not None:
        node = replace(node, replaced=_component(node.replaced, base, registry))
    name, settings = node.child("class_path"), node.child("init_args")
    if (
        not isinstance(node.value, dict)
        or name is None
        or settings is None
        or not isinstance(name.value, str)
    ):
        return node
    try:
        component = registry.get(base.kind, name.value)
    except PluginError:
        return node  # validation reports the unknown name, with its place
    return replace(node, value={**node.value, "init_args": _section(settings, component, registry)})


def _name_or_path(value: str, place: Place) -> str:
    joined = _joined(value, place)
    looks_like_path = value.startswith(("./", "../", "/", "~")) or value in (".", "..")
    exists = bool(value) and os.path.exists(joined)  # noqa: PTH110  # Path.exists() raises for invalid file names
    return joined if looks_like_path or exists else value


def _joined(value: str, place: Place) -> str:
    # Not resolve(): a link named x.safetensors may point to a file without a suffix.
    return os.path.abspath((place.folder or Path()) / Path(value).expanduser())  # noqa: PTH100
