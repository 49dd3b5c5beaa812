"""Verbs of the command line that plugins bring. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from x2kit.errors import PluginError

OWN = ("recipes", "plugins", "data", "train", "debug", "bench", "evaluate", "report", "convert")
"""The verbs of x2kit itself, which no plugin can have."""


@dataclass(frozen=True)
class Verb:
    """One verb of a plugin.

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


class Verbs:
    """The verbs of plugins by name. A plugin gets one in its hook and calls `add`.

    Args:
        plugin: name of the plugin that fills it; empty for the verbs of all plugins.
        distribution: name and version of what brought the plugin.
    """

    def __init__(self, plugin: str = "", distribution: str = "") -> None:
        self._verbs: dict[str, Verb] = {}
        self._plugin, self._distribution = plugin, distribution

    def add(self, name: str, module: str, help: str) -> None:
        """Add a verb, `x2kit NAME`. Its module is imported when it is asked for, not before.

        Args:
            name: lower-case letters, digits and -.
            module: name of a module with `EXAMPLES`, a text; `add_arguments(parser)`, of an argparse parser; and
                `run(options)`, which returns the exit status.
            help: what it does, in a line.
        Raises: PluginError for a name that cannot be, or that x2kit or another plugin has.
        """
        verb = Verb(name, module, help, self._plugin, self._distribution)
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise PluginError(
                f"verb {name!r}: a verb has lower-case letters, digits and - and begins with a letter"
            )
        if name in OWN:
            raise PluginError(
                f'verb "{name}" of {verb.owner} is a verb of x2kit itself; give it another name'
            )
        if not help.strip():
            raise PluginError(f'verb "{name}" of {verb.owner} says nothing in its help; write a line')
        self._take(verb)

    def absorb(self, other: Verbs) -> None:
        """Take all verbs of another, or none. Raises PluginError on the first name clash."""
        for verb in other:
            self._require_free(verb)
        self._verbs.update(other._verbs)

    def get(self, name: str) -> Verb | None:
        """The verb of this name, if a plugin has it."""
        return self._verbs.get(name)

    def __iter__(self) -> Iterator[Verb]:
        """All, by name."""
        return iter(verb for _, verb in sorted(self._verbs.items()))

    def _take(self, verb: Verb) -> None:
        self._require_free(verb)
        self._verbs[verb.name] = verb

    def _require_free(self, verb: Verb) -> None:
        if (old := self._verbs.get(verb.name)) is not None:
            raise PluginError(
                f'verb "{verb.name}" of {verb.owner} is already one of {old.owner}; rename one or uninstall one '
                "distribution"
            )
