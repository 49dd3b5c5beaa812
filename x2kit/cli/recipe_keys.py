"""Recipe keys on the command line: every key is an option, `--training.steps 200`. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import jsonargparse

from x2kit.errors import Fault, RecipeError
from x2kit.recipe.reading import ResolvedRecipe, read_recipe
from x2kit.recipe.shapes import SECTIONS
from x2kit.recipe.validation import Checks

if TYPE_CHECKING:
    from pathlib import Path

KEY_HELP = """
recipe keys:
  every key of a recipe is an option and wins over all files; values are read as YAML
  --training.steps 200 --training.lr=3e-4
  --model.text XLMRoberta --model.text.pretrained DIR   another component, without the settings of the old one
  --data.streams.regions.losses.bbox.weight 2           one loss of one stream
  --data.streams.parallel null                          without this stream
  --training.help, --model.vision.help [NAME]           keys with type, default and meaning
"""


@dataclass(frozen=True)
class RecipeKeys:
    """The recipe keys of a command line.

    Attributes:
        values: keys with dots, and their values as texts, in order.
        help: keys whose help is wanted, each with the component asked for, if one was.
    """

    values: list[tuple[str, str]] = field(default_factory=list)
    help: list[tuple[str, str | None]] = field(default_factory=list)


def split_keys(arguments: Sequence[str]) -> tuple[list[str], RecipeKeys]:
    """The arguments without recipe keys, and these. Raises RecipeError for a key without a value."""
    rest: list[str] = []
    keys = RecipeKeys()
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        key, equals, value = argument.removeprefix("--").partition("=")
        if argument == "--":
            return [*rest, argument, *waiting], keys
        if not argument.startswith("--") or not _is_key(key):
            rest.append(argument)
        elif key.endswith(".help"):
            named = not equals and waiting and waiting[0][:1].isupper()
            keys.help.append((key.removesuffix(".help"), value or (waiting.pop(0) if named else None)))
        elif equals:
            keys.values.append((key, value))
        elif waiting and not waiting[0].startswith("--"):
            keys.values.append((key, waiting.pop(0)))
        else:
            raise RecipeError([Fault(key, "command line", f"needs a value: --{key} VALUE")])
    return rest, keys


def refuse_keys(keys: RecipeKeys, subcommand: str, sections: Sequence[str]) -> None:
    """Raise RecipeError for keys of sections that the subcommand does not take."""
    allowed = (
        f"x2kit {subcommand} takes keys of {', '.join(sections)} only"
        if sections
        else f"x2kit {subcommand} takes no recipe keys"
    )
    faults = [
        Fault(key, "command line", allowed)
        for key in (*(key for key, _ in keys.values), *(key for key, _ in keys.help))
        if not sections or (key.split(".")[0] in SECTIONS and key.split(".")[0] not in sections)
    ]
    if faults:
        raise RecipeError(faults)


def add_recipe_arguments(parser: jsonargparse.ArgumentParser, nargs: str = "?") -> None:
    """The recipe and what is laid over it."""
    parser.add_argument("recipe", nargs=nargs, help="name of a shipped recipe, or path of a file")
    add_overlay_arguments(parser)


def add_overlay_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Files and plugins on top of a recipe."""
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        help="a recipe or overlay to lay over it, by name or path; of several the later wins",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="PLUGIN",
        help="a Python file or a module with more components; may be given several times",
    )


def read(
    options: jsonargparse.Namespace, names: Sequence[str | Path], checks: Checks = "all"
) -> ResolvedRecipe:
    """The recipe of these names under the options' overlays, plugins and keys. Raises RecipeError."""
    return read_recipe([*names, *options.config], options.recipe_keys.values, options.plugin, checks=checks)


def print_warnings(resolved: ResolvedRecipe) -> None:
    """Print a line for each warning of a recipe."""
    for warning in resolved.warnings:
        print(f"warning: {warning}")


def _is_key(name: str) -> bool:
    return "." in name or name in SECTIONS
