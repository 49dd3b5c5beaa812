"""One rule for laying a recipe over another.

Mappings merge key by key, everything else replaces. Shorthands are written out first: a component's name is
`class_path` without settings, a loss's number is its weight. Two things follow from what the keys mean:

- a component whose later `class_path` names another class starts from that class's defaults, so nothing of
  the earlier `init_args` survives; the same class, or none, merges the settings. The replaced component is kept
  beside the new one (`Node.replaced`), see `x2kit.recipe.merging`;
- null removes an entry of a mapping by name (a stream, a task, a loss) and is a plain value everywhere else.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from x2kit.errors import Fault, PluginError, SettingError
from x2kit.plugin.choice import context_of, split_choice
from x2kit.plugin.components import ComponentConfig, Kind
from x2kit.plugin.registry import Registry
from x2kit.recipe.shapes import ROOT, Component, Entries, Leaf, Section, Shape, bare, below
from x2kit.recipe.yaml_text import COMMAND_LINE, Node, Place, node_of, parse_value

EMPTY = Node({}, Place(""))


def merge(old: Node, new: Node) -> tuple[Node, list[Fault]]:
    """The recipe `old` with `new` laid over it, and what could not be done."""
    faults: list[Fault] = []
    return _merged(old, written_out(new, ROOT), ROOT, (), faults), faults


def written_out(node: Node, shape: Shape) -> Node:
    """The same values without shorthands."""
    if isinstance(shape, Component) and isinstance(node.value, str):
        return Node({"class_path": node}, node.place)
    if (
        isinstance(shape, Section)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    ):
        name = getattr(shape.model, "shorthand", None)
        return Node({name: node}, node.place) if name else node
    if isinstance(node.value, dict):
        entries = {name: written_out(item, below(shape, name)) for name, item in node.value.items()}
        return Node(entries, node.place)
    return node


def _merged(old: Node, new: Node, shape: Shape, path: tuple[str, ...], faults: list[Fault]) -> Node:
    if not isinstance(new.value, dict):
        return new
    replaced = old.replaced
    if _other_class(old, new):
        replaced = old
    if not isinstance(old.value, dict) or _other_class(old, new):
        old = Node({}, new.place)
    assert isinstance(old.value, dict)
    result = dict(old.value)
    for name, item in new.value.items():
        if isinstance(shape, Entries) and item.value is None:
            if name in result:
                del result[name]
            else:
                faults.append(_nothing_to_remove((*path, name), item, list(result)))
        else:
            earlier = result.get(name, Node({}, item.place))
            result[name] = _merged(earlier, item, below(shape, name), (*path, name), faults)
    return Node(result, new.place if not old.place.file else old.place, replaced)


def _other_class(old: Node, new: Node) -> bool:
    before, after = old.child("class_path"), new.child("class_path")
    return before is not None and after is not None and before.value != after.value


def _nothing_to_remove(path: tuple[str, ...], item: Node, known: list[str]) -> Fault:
    near = difflib.get_close_matches(path[-1], known, n=1)
    nearest = f'; nearest: "{near[0]}"' if near else ""
    return Fault(
        ".".join(path), str(item.place), f"null removes an entry, but there is none of this name{nearest}"
    )


def apply(tree: Node, overrides: Sequence[tuple[str, Any]]) -> tuple[Node, list[Fault]]:
    """The recipe with these keys set, and what could not be done.

    A component's setting may be given without `init_args`. Whole components and sections are set before what
    lies inside them, whatever the order; of two values for one key the later wins.

    Args:
        overrides: keys with dots; a text is read as YAML, any other value is taken as it is.
    """
    faults: list[Fault] = []
    steps = [(_full_path(key), value) for key, value in overrides]
    for path, value in sorted(steps, key=lambda step: len(step[0])):
        node = _value(path, value)
        for name in reversed(path):
            node = Node({name: node}, COMMAND_LINE)
        tree, found = merge(tree, node)
        faults.extend(found)
    return tree, faults


def _full_path(key: str) -> tuple[str, ...]:
    path: list[str] = []
    shape: Shape = ROOT
    for name in key.split("."):
        if isinstance(shape, Component) and name not in ("class_path", "init_args"):
            path.append("init_args")
            shape = Leaf()
        path.append(name)
        shape = below(shape, name)
    return tuple(path)


def _value(path: tuple[str, ...], value: Any) -> Node:
    if not isinstance(value, str):
        return node_of(value, COMMAND_LINE)
    shape: Shape = ROOT
    for name in path:
        shape = below(shape, name)
    if isinstance(shape, Leaf) and bare(shape.annotation) is str and value not in ("null", "~"):
        return Node(_unquoted(value), COMMAND_LINE)
    return parse_value(value, COMMAND_LINE)


def _unquoted(value: str) -> str:
    read = parse_value(value, COMMAND_LINE).value
    return read if isinstance(read, str) else value


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
