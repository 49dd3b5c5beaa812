"""The register of components: what plugins add to and recipes read from. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from x2kit.errors import PluginError
from x2kit.plugin.components import KINDS, ComponentConfig, Kind


@dataclass(frozen=True)
class Registered:
    """One component and where it comes from."""

    component: type[ComponentConfig]
    plugin: str
    distribution: str


class Registry:
    """Components by kind and name. A plugin gets one in its hook and calls `add`."""

    def __init__(self, plugin: str = "", distribution: str = "") -> None:
        self._entries: dict[tuple[Kind, str], Registered] = {}
        self._quarantined: dict[str, str] = {}
        self._plugin = plugin
        self._distribution = distribution

    def add(self, component: type[ComponentConfig]) -> None:
        """Register a component; its base class says its kind and its class name is its name in recipes.

        Raises: PluginError if it is no component, or if a component of this kind has the name already.
        """
        if not (isinstance(component, type) and issubclass(component, tuple(KINDS.values()))):
            raise PluginError(f"{component!r} is not a component: subclass one of " + ", ".join(
                base.__name__ for base in KINDS.values()))
        entry = Registered(component, self._plugin, self._distribution)
        key = (component.kind, component.component_name())
        if key in self._entries:
            raise PluginError(clash(entry, self._entries[key]))
        self._entries[key] = entry

    def absorb(self, other: Registry) -> None:
        """Take all components of another register, or none. Raises PluginError on the first name clash."""
        for key, entry in other._entries.items():
            if key in self._entries:
                raise PluginError(clash(entry, self._entries[key]))
        self._entries.update(other._entries)

    def quarantine(self, plugin: str, reason: str) -> None:
        """Remember why a plugin is not used, to say so when a name is not found."""
        self._quarantined[plugin] = reason

    def get(self, kind: Kind, name: str) -> type[ComponentConfig]:
        """The component of this name. Raises PluginError that lists near, known and quarantined names."""
        entry = self._entries.get((kind, name))
        if entry is not None:
            return entry.component
        known = {n: e for (k, n), e in sorted(self._entries.items()) if k == kind}
        message = f'no {kind} component is called "{name}"'
        near = difflib.get_close_matches(name, known, n=1)
        if near:
            message += f'; nearest: "{near[0]}" (plugin {known[near[0]].plugin})'
        message += f"\n  known: {', '.join(known) or 'none'}"
        if self._quarantined:
            message += "\n  quarantined: " + "; ".join(
                f"plugin {plugin}: {reason}" for plugin, reason in sorted(self._quarantined.items())
            )
        raise PluginError(f"{message}\n  see: x2kit plugins --kind {kind}")

    def __iter__(self) -> Iterator[Registered]:
        """All entries, by kind and name."""
        return iter(entry for _, entry in sorted(self._entries.items()))


def clash(new: Registered, old: Registered) -> str:
    """What to say when two plugins bring the same name."""
    name = new.component.component_name()
    return (
        f'{new.component.kind} component "{name}" of plugin {new.plugin} ({new.distribution}) is already '
        f"registered by plugin {old.plugin} ({old.distribution}); rename one or uninstall one distribution"
    )
