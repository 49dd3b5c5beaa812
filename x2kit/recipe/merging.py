"""Merge recipes and overlays, set single keys, and inherit sizes of replaced encoders.

Mappings merge key by key, all other values replace. Shorthands are expanded first: a component's name becomes
`class_path`, a loss's number its weight, and older keys (those of streams before they named a task, those of AdamW
before `training.optimizer`) the present ones. Two exceptions:

- a component whose `class_path` names another class than before starts from that class's defaults: earlier
  `init_args` are dropped. The replaced component is kept in `Node.replaced`, so that the new one can inherit sizes;
- null removes a named entry (a stream, a task, a loss); everywhere else it is a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from x2kit.data.config import StreamConfig
from x2kit.errors import Fault, PluginError, SettingError
from x2kit.model.config import ENCODERS
from x2kit.plugin.choice import context_of, split_choice
from x2kit.plugin.components import ComponentConfig, Kind
from x2kit.plugin.registry import Registry
from x2kit.recipe.faults import nearest
from x2kit.recipe.schema import ROOT, Component, Entries, Leaf, Section, Shape, bare, below
from x2kit.recipe.yaml_text import COMMAND_LINE, Node, Place, node_of, parse_value
from x2kit.training.config import TrainingConfig

EMPTY = Node({}, Place(""))


OLD_KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "image-text": ("ImageText", ()),
    "region-text": ("RegionText", ("images_from", "max_images", "max_regions", "max_boxes")),
    "video-text": ("VideoText", ("min_clip_frames",)),
    "parallel-text": ("ParallelText", ("pivot",)),
    "text": ("PlainText", ()),
}
"""The task for each `kind` of older recipes, and the settings of the stream that are now the task's."""
OLD_RULES = {"torch": "AdamW", "official": "OfficialAdamW"}
"""The optimiser for each `training.update_rule` of older recipes."""
MOVED = tuple(name for _, settings in OLD_KINDS.values() for name in settings)


def merge(old: Node, new: Node) -> tuple[Node, list[Fault]]:
    """Merge `new` over `old`; return the result and the faults found."""
    faults: list[Fault] = []
    return _merged(old, expand_shorthands(new, ROOT), ROOT, (), faults), faults


def expand_shorthands(node: Node, shape: Shape) -> Node:
    """Expand component names, numbers of losses and words of trained parts to mappings."""
    if isinstance(shape, Component) and isinstance(node.value, str):
        return Node({"class_path": node}, node.place)
    if (
        isinstance(shape, Section)
        and isinstance(node.value, int | float | str)
        and not isinstance(node.value, bool)
    ):
        name = getattr(shape.model, "shorthand", None)
        return Node({name: node}, node.place) if name else node
    if isinstance(node.value, dict):
        if shape == Section(StreamConfig):
            node = _with_task(node)
        if shape == Section(TrainingConfig):
            node = _with_optimizer(node)
        assert isinstance(node.value, dict)
        entries = {name: expand_shorthands(item, below(shape, name)) for name, item in node.value.items()}
        return Node(entries, node.place)
    return node


def _with_task(stream: Node) -> Node:
    """Replace `kind` and the settings that moved by `task`; saved recipes have all of them, in every stream."""
    assert isinstance(stream.value, dict)
    entries = dict(stream.value)
    old = {name: entries.pop(name) for name in MOVED if name in entries}
    kind = entries.get("kind")
    if kind is None:  # single settings, to be merged over another recipe
        if not old or "task" in entries:
            return stream
        return Node(
            {**entries, "task": Node({"init_args": Node(old, stream.place)}, stream.place)}, stream.place
        )
    if isinstance(kind.value, str):
        if kind.value not in OLD_KINDS:
            return stream
        name, settings = OLD_KINDS[kind.value]
        kept = {key: value for key, value in old.items() if key in settings}
        parts = {"class_path": Node(name, kind.place), "init_args": Node(kept, kind.place)}
        entries["task"] = Node(parts, kind.place)
    del entries["kind"]
    return Node(entries, stream.place)


def _with_optimizer(training: Node) -> Node:
    """Replace `update_rule`, `betas` and `eps` by settings of `optimizer`; saved recipes of 0.1.0 have all three."""
    assert isinstance(training.value, dict)
    entries = dict(training.value)
    settings = {str(name): entries.pop(name) for name in ("betas", "eps") if name in entries}
    rule = entries.pop("update_rule", None)
    if (rule is None and not settings) or "optimizer" in entries:
        return training  # validation reports the older keys beside the new one
    first = rule or next(iter(settings.values()))
    parts = {"init_args": Node(settings, first.place)}
    if rule is not None:
        parts["class_path"] = replace(rule, value=OLD_RULES.get(str(rule.value), rule.value))
    return Node({**entries, "optimizer": Node(parts, first.place)}, training.place)


def with_default_classes(node: Node, shape: Shape = ROOT) -> Node:
    """Name the class of a component of which only settings are given, where its key has a default."""
    if not isinstance(shape, Section) or not isinstance(node.value, dict):
        return node
    entries = {name: with_default_classes(item, below(shape, name)) for name, item in node.value.items()}
    for name, item in entries.items():
        default = shape.model.model_fields[name].default if name in shape.model.model_fields else None
        if (
            isinstance(default, ComponentConfig)
            and isinstance(item.value, dict)
            and "class_path" not in item.value
        ):
            chosen = Node(default.component_name(), item.place)
            entries[name] = replace(item, value={"class_path": chosen, **item.value})
    return replace(node, value=entries)


def _merged(old: Node, new: Node, shape: Shape, path: tuple[str, ...], faults: list[Fault]) -> Node:
    if new.value is None and isinstance(shape, Entries) and not shape.nullable:
        return Node({}, new.place)  # null removes an entry, and for the mapping all of them
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
    message = f"null removes an entry, but there is no {path[-1]!r}{nearest(path[-1], known)}"
    return Fault(".".join(path), str(item.place), message)


def apply(tree: Node, overrides: Sequence[tuple[str, Any]]) -> tuple[Node, list[Fault]]:
    """Set single keys of a recipe; return the result and the faults found.

    `init_args` may be omitted in keys. Components and sections are set before the keys inside them, whatever the
    order; the last of several values for one key wins.

    Args:
        overrides: dotted keys and values; strings are parsed as YAML, other values are used unchanged.
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


def inherit_sizes(tree: Node, registry: Registry) -> Node:
    """Copy settings of replaced encoders to those that replace them.

    Each encoder decides in `ComponentConfig.in_place_of` which settings to inherit. An inherited value keeps the place
    where it was written for the replaced encoder.
    """
    model = tree.child("model")
    if not isinstance(tree.value, dict) or model is None or not isinstance(model.value, dict):
        return tree
    encoders: dict[str, Node] = {
        kind: _inherit(kind, model.value[kind], registry) for kind in ENCODERS if kind in model.value
    }
    return replace(tree, value={**tree.value, "model": replace(model, value={**model.value, **encoders})})


def _inherit(kind: Kind, node: Node, registry: Registry) -> Node:
    if node.replaced is None or not isinstance(node.value, dict):
        return node
    old = _inherit(kind, node.replaced, registry)
    before, other = _component(kind, node, registry), _component(kind, old, registry)
    if (
        before is None or other is None
    ):  # validation reports an invalid one; an invalid replaced one is ignored
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
