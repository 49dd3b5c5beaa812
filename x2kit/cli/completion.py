"""Print shell completion scripts that include recipe keys. Imports no torch."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import jsonargparse

from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.registry import Registry
from x2kit.recipe.catalogue import shipped
from x2kit.recipe.schema import ROOT, Component, Leaf, Section, Shape, bare, below

_RECIPES = "_x2kit_recipes"


class PrintCompletion(argparse.Action):
    """Print a script that completes subcommands, options, recipe keys and recipe names.

    Args:
        sections: recipe sections whose keys are options, by subcommand.
    """

    def __init__(self, sections: Mapping[str, Sequence[str]], **settings: Any) -> None:
        super().__init__(**settings)
        self._sections = sections

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        assert isinstance(parser, jsonargparse.ArgumentParser)
        registry = load_plugins().registry
        for action in _subcommands(parser):
            for subcommand, subparser in action.choices.items():
                sections = self._sections.get(subcommand, ())
                keys = [key for name in sections for key in _keys(name, below(ROOT, name), registry)]
                _complete_recipes(subparser, dict(reversed(keys)))
        names = " ".join(shlex.quote(str(file.name)) for file in shipped())
        function = f'{_RECIPES}() {{ compgen -W "{names}" -- "$1"; compgen -f -- "$1"; }}'
        preambles = [function] if values == "bash" else None
        print(parser.get_completion_script(f"shtab-{values}", preambles=preambles))
        sys.exit(0)


def _complete_recipes(parser: jsonargparse.ArgumentParser, keys: Mapping[str, Sequence[str]]) -> None:
    """Add recipe keys as options to a subcommand or to its actions that read recipes."""
    for action in _subcommands(parser):
        for subparser in action.choices.values():
            _complete_recipes(subparser, keys)
    if "--config" in parser._option_string_actions:
        for action in parser._actions:
            if action.dest in ("recipe", "recipes", "config"):
                action.complete = {"bash": _RECIPES, "zsh": "_files", "tcsh": "f"}  # type: ignore[attr-defined]
        for key, choices in keys.items():
            parser.add_argument(f"--{key}", choices=choices)


def _subcommands(parser: jsonargparse.ArgumentParser) -> Iterator[Any]:
    return (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def _keys(key: str, shape: Shape, registry: Registry) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the keys below one with their choices; for a component, the settings of all of its kind."""
    if isinstance(shape, Leaf):
        yield key, _choices(shape.annotation)
    if isinstance(shape, Section):
        for name in shape.model.model_fields:
            yield from _keys(f"{key}.{name}", below(shape, name), registry)
    if isinstance(shape, Component):
        components = [entry.component for entry in registry if entry.component.kind == shape.kind]
        yield key, [component.component_name() for component in components]
        for component in components:
            yield from _keys(key, Section(component), registry)


def _choices(annotation: Any) -> Sequence[str]:
    inner = bare(annotation)
    if inner is bool:
        return ("true", "false")
    return [str(choice) for choice in get_args(inner)] if get_origin(inner) is Literal else ()
