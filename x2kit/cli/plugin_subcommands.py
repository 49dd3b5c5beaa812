"""Load subcommands of plugins; their modules are imported only when run. Imports no torch."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from x2kit.errors import PluginError
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.loading.subcommands import Subcommand, Subcommands

REQUIRED = ("EXAMPLES", "add_arguments", "run")


def installed_subcommands() -> Subcommands:
    """Return the subcommands of all installed plugins that load."""
    return load_plugins().subcommands


def help_stub(subcommand: Subcommand) -> ModuleType:
    """Make a module with the help line alone, for `x2kit --help`."""
    module = ModuleType(subcommand.module)
    module.__dict__.update(
        HELP=f"{subcommand.help} ({subcommand.plugin})", EXAMPLES="", add_arguments=lambda parser: None
    )
    return module


def load_module(subcommand: Subcommand) -> ModuleType:
    """Import the module of a subcommand. Raises PluginError if it fails or lacks an attribute."""
    where = f'subcommand "{subcommand.name}" of {subcommand.owner}'
    try:
        module = import_module(subcommand.module)
    except Exception as error:  # plugin code may raise anything on import
        raise PluginError(
            f"{where}: {subcommand.module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if missing := [name for name in REQUIRED if not hasattr(module, name)]:
        raise PluginError(
            f"{where}: {subcommand.module} has no {', '.join(missing)}; a subcommand needs {', '.join(REQUIRED)}"
        )
    module.__dict__.setdefault("HELP", subcommand.help)
    return module
