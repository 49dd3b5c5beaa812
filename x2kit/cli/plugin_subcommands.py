"""Subcommands that plugins bring: found without importing them, imported when one is asked for. Imports no torch."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from x2kit.errors import PluginError
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.subcommands import Subcommand, Subcommands

NEEDED = ("EXAMPLES", "add_arguments", "run")


def brought_subcommands() -> Subcommands:
    """Those of the installed plugins that work."""
    return load_plugins().subcommands


def stand_in(subcommand: Subcommand) -> ModuleType:
    """A subcommand as `x2kit --help` needs it: its line, and nothing imported."""
    module = ModuleType(subcommand.module)
    module.__dict__.update(
        HELP=f"{subcommand.help} ({subcommand.plugin})", EXAMPLES="", add_arguments=lambda parser: None
    )
    return module


def module_of(subcommand: Subcommand) -> ModuleType:
    """The module of a subcommand. Raises PluginError if it cannot be imported or lacks something."""
    where = f'subcommand "{subcommand.name}" of {subcommand.owner}'
    try:
        module = import_module(subcommand.module)
    except Exception as error:  # a stranger's module, which may raise anything when it is imported
        raise PluginError(
            f"{where}: {subcommand.module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if missing := [name for name in NEEDED if not hasattr(module, name)]:
        raise PluginError(
            f"{where}: {subcommand.module} has no {', '.join(missing)}; a subcommand needs {', '.join(NEEDED)}"
        )
    module.__dict__.setdefault("HELP", subcommand.help)
    return module
