"""Subcommands of the command line that plugins bring. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from x2kit.errors import PluginError

OWN = ("recipes", "plugins", "data", "train", "debug", "bench", "evaluate", "report", "convert")
"""The subcommands of x2kit itself, which no plugin can have."""


@dataclass(frozen=True)
class Subcommand:
    """One subcommand of a plugin.

    Attributes:
        name: what is typed behind `x2kit`.
        module: name of the module that has it.
        help: what `x2kit --help` says, in a line.
        plugin: the plugin's name.
        distribution: name and version of what brought the plugin.
    """

    name: str
    module: str
    help: str
    plugin: str
    distribution: str

    @property
    def owner(self) -> str:
        """Plugin and distribution, for messages."""
        return f"plugin {self.plugin} ({self.distribution})"


class Subcommands:
    """The subcommands of plugins by name. A plugin gets one in its hook and calls `add`.

    Args:
        plugin: name of the plugin that fills it; empty for the subcommands of all plugins.
        distribution: name and version of what brought the plugin.
    """

    def __init__(self, plugin: str = "", distribution: str = "") -> None:
        self._subcommands: dict[str, Subcommand] = {}
        self._plugin, self._distribution = plugin, distribution

    def add(self, name: str, module: str, help: str) -> None:
        """Add a subcommand, `x2kit NAME`. Its module is imported when it is asked for, not before.

        Args:
            name: lower-case letters, digits and -.
            module: name of a module with `EXAMPLES`, a text; `add_arguments(parser)`, of an argparse parser; and
                `run(options)`, which returns the exit status.
            help: what it does, in a line.
        Raises: PluginError for a name that cannot be, or that x2kit or another plugin has.
        """
        subcommand = Subcommand(name, module, help, self._plugin, self._distribution)
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise PluginError(
                f"subcommand {name!r}: a subcommand has lower-case letters, digits and - and begins with a letter"
            )
        if name in OWN:
            raise PluginError(
                f'subcommand "{name}" of {subcommand.owner} is a subcommand of x2kit itself; give it another name'
            )
        if not help.strip():
            raise PluginError(
                f'subcommand "{name}" of {subcommand.owner} says nothing in its help; write a line'
            )
        self._take(subcommand)

    def absorb(self, other: Subcommands) -> None:
        """Take all subcommands of another, or none. Raises PluginError on the first name clash."""
        for subcommand in other:
            self._require_free(subcommand)
        self._subcommands.update(other._subcommands)

    def get(self, name: str) -> Subcommand | None:
        """The subcommand of this name, if a plugin has it."""
        return self._subcommands.get(name)

    def __iter__(self) -> Iterator[Subcommand]:
        """All, by name."""
        return iter(subcommand for _, subcommand in sorted(self._subcommands.items()))

    def _take(self, subcommand: Subcommand) -> None:
        self._require_free(subcommand)
        self._subcommands[subcommand.name] = subcommand

    def _require_free(self, subcommand: Subcommand) -> None:
        if (old := self._subcommands.get(subcommand.name)) is not None:
            raise PluginError(
                f'subcommand "{subcommand.name}" of {subcommand.owner} is already one of {old.owner}; '
                "rename one or uninstall one distribution"
            )
