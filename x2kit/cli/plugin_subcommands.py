"""Verbs that plugins bring: found without importing them, imported when one is asked for. Imports no torch."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from x2kit.errors import PluginError
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.subcommands import Verb, Verbs

NEEDED = ("EXAMPLES", "add_arguments", "run")


def brought_verbs() -> Verbs:
    """Those of the installed plugins that work."""
    return load_plugins().verbs


def stand_in(verb: Verb) -> ModuleType:
    """A verb as `x2kit --help` needs it: its line, and nothing imported."""
    module = ModuleType(verb.module)
    module.__dict__.update(
        HELP=f"{verb.help} ({verb.plugin})", EXAMPLES="", add_arguments=lambda parser: None
    )
    return module


def module_of(verb: Verb) -> ModuleType:
    """The module of a verb. Raises PluginError if it cannot be imported or lacks something."""
    where = f'verb "{verb.name}" of {verb.owner}'
    try:
        module = import_module(verb.module)
    except Exception as error:  # a stranger's module, which may raise anything when it is imported
        raise PluginError(
            f"{where}: {verb.module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if missing := [name for name in NEEDED if not hasattr(module, name)]:
        raise PluginError(
            f"{where}: {verb.module} has no {', '.join(missing)}; a verb needs {', '.join(NEEDED)}"
        )
    module.__dict__.setdefault("HELP", verb.help)
    return module
