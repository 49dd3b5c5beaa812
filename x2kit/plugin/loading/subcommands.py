"""Subcommands of the command line that plugins add. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from x2kit.errors import PluginError

OWN = (
    *("recipes", "plugins", "data", "train", "debug", "bench", "evaluate", "results", "iglue", "report"),
    *("embed", "match", "locate", "classify", "answer", "describe", "explain", "search"),
    *("models", "convert", "export", "publish"),
)
"""Subcommands of x2kit itself, reserved."""


@dataclass(frozen=True)
class Subcommand:
    """One subcommand of a plugin.

    Attributes:
        name: its name after `x2kit`.
        module: name of its module.
        help: its line in `x2kit --help`.
        plugin: name of the plugin.
        distribution: name and version of the plugin's distribution.
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
    """Subcommands of plugins by name, passed to the hook of a plugin.

    Args:
        plugin: name of the plugin that adds to it; empty for the subcommands of all plugins.
        distribution: name and version of the plugin's distribution.
    """

    def __init__(self, plugin: str = "", distribution: str = "") -> None:
        self._subcommands: dict[str, Subcommand] = {}
        self._plugin, self._distribution = plugin, distribution

    def add(self, name: str, module: str, help: str) -> None:
        """Add a subcommand, `x2kit NAME`. Its module is imported when the subcommand runs.

        Args:
            name: lower-case letters, digits and -.
            module: name of a module with `EXAMPLES`, a str; `add_arguments(parser)` for an argparse parser; and
                `run(options)`, which returns the exit status.
            help: one line.
        Raises: PluginError for an invalid name, or a duplicate of one of x2kit or another plugin.
        """
        subcommand = Subcommand(name, module, help, self._plugin, self._distribution)
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise PluginError(
                f"subcommand {name!r}: expected lower-case letters, digits and -, starting with a letter"
            )
        if name in OWN:
            raise PluginError(
                f'subcommand "{name}" of {subcommand.owner} is a subcommand of x2kit itself; rename it'
            )
        if not help.strip():
            raise PluginError(f'subcommand "{name}" of {subcommand.owner} has an empty help; write one line')
        self._require_free(subcommand)
        self._subcommands[name] = subcommand

    def absorb(self, other: Subcommands) -> None:
        """Add all subcommands of another, or none. Raises PluginError for a duplicate name."""
        for subcommand in other:
            self._require_free(subcommand)
        self._subcommands.update(other._subcommands)

    def get(self, name: str) -> Subcommand | None:
        """Return the subcommand of this name; None if no plugin has it."""
        return self._subcommands.get(name)

    def __iter__(self) -> Iterator[Subcommand]:
        """Iterate over all, by name."""
        return iter(subcommand for _, subcommand in sorted(self._subcommands.items()))

    def _require_free(self, subcommand: Subcommand) -> None:
        if (old := self._subcommands.get(subcommand.name)) is not None:
            raise PluginError(
                f'subcommand "{subcommand.name}" of {subcommand.owner} is already registered by {old.owner}; '
                "rename one or uninstall one distribution"
            )
