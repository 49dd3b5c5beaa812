"""Run the command line: dispatch to one module per subcommand. Imports no torch.

A subcommand is a module of this package with `HELP`, `EXAMPLES`, `add_arguments(parser)` and `run(options)`, which
returns the exit status. `RECIPE_KEYS` lists the recipe sections whose keys are also options; the keys given are in
`options.recipe_keys`. Plugins can add subcommands, see `x2kit.plugin.loading.subcommands`.
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
from x2kit.cli import evaluation, inference, sharing
from x2kit.cli.completion import PrintCompletion
from x2kit.cli.parser import ArgumentParser, HelpFormatter
from x2kit.cli.plugin_subcommands import help_stub, installed_subcommands, load_module
from x2kit.cli.recipe_keys import KEY_HELP, RecipeKeys, refuse_keys, split_keys
from x2kit.errors import X2KitError
from x2kit.plugin.loading.subcommands import OWN
from x2kit.recipe.faults import nearest
from x2kit.recipe.schema import SECTIONS

SUBCOMMANDS = OWN
EXAMPLES = """\
examples:
  x2kit recipes list
  x2kit train quickstart/multilingual --run-dir runs/first
  x2kit evaluate runs/first
  x2kit report runs/first
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: arguments; `sys.argv[1:]` if None.
    Returns: the exit status: that of the subcommand, 2 for a user error, 130 after Ctrl-C, 141 for a closed pipe.
    """
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # raise BrokenPipeError here, not at exit
        return status
    except X2KitError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has exited; without this, Python reports the error again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(arguments: list[str]) -> int:
    subcommand = arguments[0] if arguments and not arguments[0].startswith("-") else None
    modules = {subcommand: _module(subcommand)} if subcommand else _all_modules()
    keys = RecipeKeys()
    if subcommand:
        sections = getattr(modules[subcommand], "RECIPE_KEYS", ())
        arguments, keys = split_keys(arguments, SECTIONS if sections else ())
        refuse_keys(keys, subcommand, sections)
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
    """Return whether the subcommand requires an action, as `recipes` does and `plugins` does not."""
    (subcommands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    actions = subcommands._name_parser_map[subcommand]._actions
    return any(isinstance(action, argparse._SubParsersAction) and action.required for action in actions)


def module_name(subcommand: str) -> str:
    """Return the name of the module of an own subcommand."""
    for package in (evaluation, inference, sharing):
        if subcommand in package.SUBCOMMANDS:
            return f"{package.__name__}.{subcommand}"
    return f"x2kit.cli.{subcommand}"


def _module(subcommand: str) -> ModuleType:
    """Import the module of a subcommand. Raises X2KitError if it does not exist."""
    if subcommand in SUBCOMMANDS:
        return import_module(module_name(subcommand))
    others = installed_subcommands()
    if (found := others.get(subcommand)) is not None:
        return load_module(found)
    known = [*SUBCOMMANDS, *(other.name for other in others)]
    raise X2KitError(
        f"x2kit has no subcommand {subcommand!r}{nearest(subcommand, known)}\n  subcommands: {', '.join(known)}"
    )


def _all_modules() -> dict[str, ModuleType]:
    """Import all own subcommands; those of plugins are help stubs."""
    own = {name: _module(name) for name in SUBCOMMANDS}
    return own | {subcommand.name: help_stub(subcommand) for subcommand in installed_subcommands()}


def _parser(modules: dict[str, ModuleType]) -> ArgumentParser:
    parser = ArgumentParser(
        prog="x2kit",
        description="Pretrain, modify and evaluate X²-VLM models from recipes and plugins.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"x2kit {x2kit.__version__}")
    parser.add_argument(
        "--print_completion",
        action=PrintCompletion,
        sections={name: getattr(module, "RECIPE_KEYS", ()) for name, module in modules.items()},
        choices=("bash", "tcsh", "zsh"),
        default=argparse.SUPPRESS,
        metavar="SHELL",
        help="print a completion script for bash, zsh or tcsh (subcommands, options, recipe keys)",
    )
    subcommands = parser.add_subcommands(
        dest="subcommand", title="subcommands", description="for details: x2kit SUBCOMMAND --help"
    )
    for name, module in modules.items():
        takes_keys = getattr(module, "RECIPE_KEYS", ())
        subcommand = ArgumentParser(
            description=module.HELP,
            epilog=module.EXAMPLES + (KEY_HELP if takes_keys else ""),
            formatter_class=HelpFormatter,
            print_config=None,  # `train` has its own, which prints the recipe
        )
        subcommands.add_subcommand(name, subcommand, help=module.HELP)
        module.add_arguments(subcommand)
    return parser
