"""Parse recipe keys given as options, such as `--training.steps 200`. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jsonargparse

from x2kit.cli.parser import add_plugin_argument
from x2kit.errors import Fault, RecipeError
from x2kit.recipe.reading import ResolvedRecipe, read_recipe
from x2kit.recipe.schema import SECTIONS
from x2kit.recipe.validation import Checks

if TYPE_CHECKING:
    from pathlib import Path

KEY_HELP = """
recipe keys:
  every recipe key is an option and overrides all files; values are parsed as YAML
  --training.steps 200 --training.lr=3e-4
  --model.text XLMRoberta --model.text.pretrained DIR   another component; settings of the old one are dropped
  --data.streams.regions.losses.bbox.weight 2           weight of one loss in one stream
  --data.streams.parallel null                          remove this stream
  --training.help, --model.vision.help [NAME]           list keys with type, default and description
"""


@dataclass(frozen=True)
class RecipeKeys:
    """Recipe keys given on the command line.

    Attributes:
        values: dotted keys and their values as strings, in order.
        help: keys whose help was requested, each with the component named, if any.
    """

    values: list[tuple[str, str]] = field(default_factory=list)
    help: list[tuple[str, str | None]] = field(default_factory=list)


def split_keys(arguments: Sequence[str], sections: Sequence[str] = SECTIONS) -> tuple[list[str], RecipeKeys]:
    """Separate recipe keys from other arguments.

    Args:
        arguments: of the command line.
        sections: names that are keys without a dot; none for subcommands without recipes, whose option may be --model.
    Raises: RecipeError for a key without a value.
    """
    rest: list[str] = []
    keys = RecipeKeys()
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        key, equals, value = argument.removeprefix("--").partition("=")
        if argument == "--":
            return [*rest, argument, *remaining], keys
        if not argument.startswith("--") or not ("." in key or key in sections):
            rest.append(argument)
        elif key.endswith(".help"):
            named = not equals and remaining and remaining[0][:1].isupper()
            keys.help.append((key.removesuffix(".help"), value or (remaining.pop(0) if named else None)))
        elif equals:
            keys.values.append((key, value))
        elif remaining and not remaining[0].startswith("--"):
            keys.values.append((key, remaining.pop(0)))
        else:
            raise RecipeError([Fault(key, "command line", f"needs a value: --{key} VALUE")])
    return rest, keys


def refuse_keys(keys: RecipeKeys, subcommand: str, sections: Sequence[str]) -> None:
    """Raise RecipeError for keys outside the sections that a subcommand accepts."""
    allowed = (
        f"x2kit {subcommand} accepts only keys of {', '.join(sections)}"
        if sections
        else f"x2kit {subcommand} accepts no recipe keys"
    )
    faults = [
        Fault(key, "command line", allowed)
        for key in (*(key for key, _ in keys.values), *(key for key, _ in keys.help))
        if not sections or (key.split(".")[0] in SECTIONS and key.split(".")[0] not in sections)
    ]
    if faults:
        raise RecipeError(faults)


def add_recipe_arguments(parser: jsonargparse.ArgumentParser, nargs: str = "?") -> None:
    """Add the recipe, `--config` and `--plugin`."""
    parser.add_argument("recipe", nargs=nargs, help="name of a shipped recipe, or path of a recipe file")
    add_overlay_arguments(parser)


def add_overlay_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add `--config` and `--plugin`."""
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        help="a recipe or overlay to merge over it, by name or path; repeatable, the last one wins",
    )
    add_plugin_argument(parser)


def read(
    options: jsonargparse.Namespace, names: Sequence[str | Path], checks: Checks = "all"
) -> ResolvedRecipe:
    """Read recipes with the overlays, plugins and keys of the options. Raises RecipeError."""
    return read_recipe([*names, *options.config], options.recipe_keys.values, options.plugin, checks=checks)


def print_warnings(resolved: ResolvedRecipe, but: str | None = None) -> None:
    """Print the warnings of a recipe, except those of the key `but`."""
    for warning in resolved.warnings:
        if warning.key != but:
            print(f"warning: {warning}")
