"""The command line: one subcommand a file, recipe keys as options, errors as messages. Imports no torch.

A subcommand is a module of this package with `HELP`, `EXAMPLES`, `add_arguments(parser)` and `run(options)`, which
returns the exit status. One that reads recipes names in `RECIPE_KEYS` the sections whose keys are its options
too, and finds them in `options.recipe_keys`. Plugins bring more subcommands, see `x2kit.plugin.subcommands`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

import jsonargparse

import x2kit
from x2kit.cli.completion import PrintCompletion
from x2kit.cli.parser import ArgumentParser
from x2kit.cli.plugin_subcommands import brought_subcommands, module_of, stand_in
from x2kit.cli.recipe_keys import KEY_HELP, RecipeKeys, refuse_keys, split_keys
from x2kit.errors import X2KitError
from x2kit.plugin.subcommands import OWN
from x2kit.recipe.faults import nearest

SUBCOMMANDS = OWN
EXAMPLES = """\
examples:
  x2kit recipes list
  x2kit train quickstart/multilingual --run-dir runs/first
  x2kit evaluate runs/first
  x2kit report runs/first
"""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter, jsonargparse.DefaultHelpFormatter):
    """Leaves the examples as they are written, and says nothing of defaults that say nothing."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.default in (None, False, []):
            return action.help or ""
        return super()._get_help_string(action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: the arguments; those of the process if None.
    Returns: the exit status: that of the subcommand, 2 for what the person can mend, 130 after Ctrl-C.
    """
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # a reader that has gone must be noticed here, not while Python exits
        return status
    except X2KitError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone; without this Python would complain once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(arguments: list[str]) -> int:
    subcommand = arguments[0] if arguments and not arguments[0].startswith("-") else None
    modules = {subcommand: _module(subcommand)} if subcommand else _all_modules()
    keys = RecipeKeys()
    if subcommand:
        arguments, keys = split_keys(arguments)
        refuse_keys(keys, subcommand, getattr(modules[subcommand], "RECIPE_KEYS", ()))
    parser = _parser(modules)
    if not arguments:
        parser.print_help()
        return 0
    if subcommand and arguments == [subcommand] and _has_actions(parser, subcommand):
        arguments = [subcommand, "--help"]
    options = parser.parse_args(arguments)
    chosen = options[options.subcommand]
    chosen.recipe_keys = keys
    status: int = modules[options.subcommand].run(chosen)
    return status


def _has_actions(parser: jsonargparse.ArgumentParser, subcommand: str) -> bool:
    """Whether the subcommand needs an action, as `recipes` does; `plugins` lists without one."""
    (subcommands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    own = subcommands._name_parser_map[subcommand]._actions
    return any(isinstance(action, argparse._SubParsersAction) and action.required for action in own)


def _module(subcommand: str) -> ModuleType:
    """Raises X2KitError if neither x2kit nor a plugin has the subcommand."""
    if subcommand in SUBCOMMANDS:
        return import_module(f"x2kit.cli.{subcommand}")
    brought = brought_subcommands()
    if (found := brought.get(subcommand)) is not None:
        return module_of(found)
    known = [*SUBCOMMANDS, *(one.name for one in brought)]
    raise X2KitError(
        f"x2kit has no subcommand {subcommand!r}{nearest(subcommand, known)}\n  subcommands: {', '.join(known)}"
    )


def _all_modules() -> dict[str, ModuleType]:
    """Those of plugins behind our own, and not imported: only their lines in the help are wanted."""
    own = {name: _module(name) for name in SUBCOMMANDS}
    return own | {subcommand.name: stand_in(subcommand) for subcommand in brought_subcommands()}


def _parser(modules: dict[str, ModuleType]) -> ArgumentParser:
    parser = ArgumentParser(
        prog="x2kit",
        description="Pretrain, swap and evaluate X²-VLM from plugins and recipes.",
        epilog=EXAMPLES,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"x2kit {x2kit.__version__}")
    parser.add_argument(
        "--print_completion",
        action=PrintCompletion,
        sections={name: getattr(module, "RECIPE_KEYS", ()) for name, module in modules.items()},
        choices=("bash", "tcsh", "zsh"),
        default=argparse.SUPPRESS,
        metavar="SHELL",
        help="print a script for bash, zsh or tcsh that completes subcommands, options and recipe keys",
    )
    subcommands = parser.add_subcommands(
        dest="subcommand", title="subcommands", description="x2kit SUBCOMMAND --help tells more:"
    )
    for name, module in modules.items():
        takes_keys = getattr(module, "RECIPE_KEYS", ())
        subcommand = ArgumentParser(
            description=module.HELP,
            epilog=module.EXAMPLES + (KEY_HELP if takes_keys else ""),
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
            print_config=None,  # jsonargparse's prints its own options, that of `train` the recipe
        )
        subcommands.add_subcommand(name, subcommand, help=module.HELP)
        module.add_arguments(subcommand)
    return parser
