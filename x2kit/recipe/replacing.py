"""Sizes of encoders that a recipe exchanges: those left open follow the replaced encoder. Imports no torch."""

from __future__ import annotations

from dataclasses import replace

from pydantic import ValidationError

from x2kit.errors import PluginError, SettingError
from x2kit.plugin.choice import context_of, split_choice
from x2kit.plugin.components import ComponentConfig, Kind
from x2kit.plugin.registry import Registry
from x2kit.recipe.written import Node, Place

ENCODERS: tuple[Kind, ...] = ("vision", "text", "fusion")


def with_sizes_of_replaced(tree: Node, registry: Registry) -> Node:
    """The recipe with the settings that encoders take over from those that they replace.

    Each encoder decides by `ComponentConfig.in_place_of`. A value that was taken over keeps the place where it was
    written for the replaced encoder.
    """
    model = tree.child("model")
    if not isinstance(tree.value, dict) or model is None or not isinstance(model.value, dict):
        return tree
    encoders: dict[str, Node] = {
        kind: _followed(kind, model.value[kind], registry) for kind in ENCODERS if kind in model.value
    }
    return replace(tree, value={**tree.value, "model": replace(model, value={**model.value, **encoders})})


def _followed(kind: Kind, node: Node, registry: Registry) -> Node:
    if node.replaced is None or not isinstance(node.value, dict):
        return node
    old = _followed(kind, node.replaced, registry)
    before, other = _component(kind, node, registry), _component(kind, old, registry)
    if before is None or other is None:  # validation reports a wrong one; a replaced one has nothing to give
        return node
    try:
        after = before.in_place_of(other).model_dump(mode="json")
    except SettingError:
        return node
    known = before.model_dump(mode="json")
    settings, earlier = node.child("init_args"), old.child("init_args")
    taken = {
        name: Node(value, _place(earlier and earlier.child(name), value) or node.place)
        for name, value in after.items()
        if value != known[name]
    }
    written = settings.value if settings and isinstance(settings.value, dict) else {}
    place = settings.place if settings else node.place
    return replace(node, value={**node.value, "init_args": Node({**written, **taken}, place)})


def _place(earlier: Node | None, value: object) -> Place | None:
    return earlier.place if earlier and earlier.plain() == value else None


def _component(kind: Kind, node: Node, registry: Registry) -> ComponentConfig | None:
    try:
        name, settings = split_choice(node.plain())
        return registry.get(kind, name).model_validate(settings, context=context_of(registry))
    except (PluginError, ValidationError, ValueError):
        return None
