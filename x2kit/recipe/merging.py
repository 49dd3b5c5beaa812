"""One rule for laying a recipe over another.

Mappings merge key by key, everything else replaces. Shorthands are written out first: a component's name is
`class_path` without settings, a loss's number is its weight. Two things follow from what the keys mean:

- a component whose later `class_path` names another class starts from that class's defaults, so nothing of
  the earlier `init_args` survives; the same class, or none, merges the settings. The replaced component is kept
  beside the new one (`Node.replaced`), see `x2kit.recipe.replacing`;
- null removes an entry of a mapping by name (a stream, a task, a loss) and is a plain value everywhere else.
"""

from __future__ import annotations

import difflib

from x2kit.errors import Fault
from x2kit.recipe.shapes import ROOT, Component, Entries, Section, Shape, below
from x2kit.recipe.written import Node, Place

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
