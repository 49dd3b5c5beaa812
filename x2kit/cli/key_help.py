"""Print help on recipe keys: `--training.help`, `recipes show training.lr`. Imports no torch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

import jsonargparse

from x2kit.errors import Fault, RecipeError
from x2kit.plugin.components import ComponentConfig, Kind
from x2kit.plugin.loading.manager import Plugins, load_plugins
from x2kit.recipe.faults import nearest
from x2kit.recipe.keys import KeyFacts, keys_of
from x2kit.recipe.merging import EMPTY
from x2kit.recipe.reading import plugin_entries, read_tree, with_plugins
from x2kit.recipe.schema import ROOT, SECTIONS, Component, Entries, Leaf, Section, Shape, below
from x2kit.recipe.yaml_text import Node


def print_help(options: jsonargparse.Namespace, names: Sequence[str | Path], saved: bool = False) -> int:
    """Print the help on all keys in `options.recipe_keys.help`.

    Args:
        options: options of a subcommand with recipe keys.
        names: the recipe, if given; its plugins and components are used.
        saved: treat the recipe as the saved one of a run or weights directory.
    Raises: RecipeError for an unknown key, PluginError for an unknown component.
    """
    tree, plugins = _load(options, names, saved)
    for key, component in options.recipe_keys.help:
        _print_key(key, component, tree, plugins)
    return 0


def is_key(name: str) -> bool:
    """Return whether a name is a recipe key and not a file."""
    return name.split(".")[0] in SECTIONS and not Path(name).is_file()


def print_key(key: str, options: jsonargparse.Namespace) -> int:
    """Print the help on one key. Raises as `print_help`."""
    _print_key(key, None, *_load(options, []))
    return 0


def _load(
    options: jsonargparse.Namespace, names: Sequence[str | Path], saved: bool = False
) -> tuple[Node, Plugins]:
    tree = (
        read_tree([*names, *options.config], options.recipe_keys.values, saved)[1]
        if names or options.config
        else EMPTY
    )
    named = plugin_entries(with_plugins(tree, options.plugin))
    return tree, load_plugins([str(entry.value) for entry in named])


def _print_key(key: str, component: str | None, tree: Node, plugins: Plugins) -> None:
    shape: Shape = ROOT
    parent: Shape = ROOT
    node: Node | None = tree
    names = key.split(".")
    for depth, name in enumerate(names):
        if isinstance(shape, Component) and name not in ("class_path", "init_args"):
            settings = _chosen(shape.kind, component, node, plugins)
            shape = Section(settings) if settings else Leaf()
            node = node.child("init_args") if node else None
        if isinstance(shape, Section) and name not in shape.model.model_fields:
            known = list(shape.model.model_fields)
            wrong = ".".join(names[: depth + 1])
            message = f"unknown key{nearest(name, known)}\n  known: {', '.join(known)}"
            raise RecipeError([Fault(wrong, "command line", message)])
        parent = shape
        shape, node = below(shape, name), node.child(name) if node else None
    if isinstance(shape, Component):
        _print_component(key, shape.kind, component, node, plugins)
    elif isinstance(shape, Entries) and isinstance(shape.of, Section):
        _print_keys(f"{key}.NAME", shape.of)
    elif isinstance(shape, Section):
        _print_keys(key, shape)
    elif isinstance(parent, Section):
        (fact,) = (fact for fact in keys_of(parent.model) if fact.name == names[-1])
        _print_fact(key, fact)
        print(f"      defined by {parent.model.__module__}.{parent.model.__qualname__}")
    elif isinstance(shape, Entries):
        raise RecipeError(
            [Fault(key, "command line", f"is a mapping with free names; see --{'.'.join(names[:-1])}.help")]
        )
    else:
        message = "a setting of an unknown component; give a recipe, or see --KEY.help NAME"
        raise RecipeError([Fault(key, "command line", message)])


def _chosen(
    kind: Kind, name: str | None, node: Node | None, plugins: Plugins
) -> type[ComponentConfig] | None:
    written = node.child("class_path") if node else None
    wanted = name or (str(written.value) if written else None)
    return plugins.registry.get(kind, wanted) if wanted else None


def _print_component(key: str, kind: Kind, name: str | None, node: Node | None, plugins: Plugins) -> None:
    component = _chosen(kind, name, node, plugins)
    entries = [entry for entry in plugins.registry if entry.component.kind == kind]
    if component is None:
        print(f"{key}: one of")
        for entry in entries:
            print(f"  {entry.component.component_name()}  {_summary(entry.component)}")
        print(f"see the settings of one: --{key}.help NAME")
        return
    owner = next(entry.plugin for entry in entries if entry.component is component)
    text = inspect.cleandoc(component.__doc__ or "")
    _print_keys(key, Section(component), f"{key}: {component.component_name()} (plugin {owner})\n\n{text}")


def _print_keys(key: str, section: Section, title: str | None = None) -> None:
    print(title or f"{key}: {_summary(section.model)}")
    print()
    for fact in keys_of(section.model):
        _print_fact(f"{key}.{fact.name}", fact)


def _print_fact(key: str, fact: KeyFacts) -> None:
    default = "required" if fact.default is None else f"default {fact.default}"
    print(f"  --{key}  ({fact.type}; {default})")
    if fact.description:
        print(f"      {fact.description}")


def _summary(model: type) -> str:
    # Not inspect.getdoc, which falls back to the docstring of a base class.
    return inspect.cleandoc(model.__doc__ or "").split("\n")[0]
