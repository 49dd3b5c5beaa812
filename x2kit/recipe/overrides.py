"""Recipe keys given one by one, as the command line does: `("model.text.pretrained", "DIR")`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from x2kit.errors import Fault
from x2kit.recipe.merging import merge
from x2kit.recipe.shapes import ROOT, Component, Leaf, Shape, bare, below
from x2kit.recipe.written import COMMAND_LINE, Node, node_of
from x2kit.recipe.yaml_text import parse_value


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
