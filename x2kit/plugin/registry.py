"""Registry of components that plugins add to and recipes read from. Imports no torch."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import NamedTuple
from weakref import WeakKeyDictionary

from x2kit.errors import PluginError
from x2kit.plugin.components import (
    ComponentConfig,
    FusionEncoderConfig,
    HeadConfig,
    IndexConfig,
    Kind,
    ObjectiveConfig,
    SourceConfig,
    TaskConfig,
    TextEncoderConfig,
    VisionEncoderConfig,
)
from x2kit.plugin.training import OptimizerConfig, ReporterConfig

KINDS: dict[Kind, type[ComponentConfig]] = {
    "vision": VisionEncoderConfig,
    "text": TextEncoderConfig,
    "fusion": FusionEncoderConfig,
    "head": HeadConfig,
    "source": SourceConfig,
    "task": TaskConfig,
    "objective": ObjectiveConfig,
    "optimizer": OptimizerConfig,
    "reporter": ReporterConfig,
    "index": IndexConfig,
}


class Owner(NamedTuple):
    """Plugin that registered a component, and its distribution with version, or its file."""

    plugin: str
    distribution: str


_OWNERS: WeakKeyDictionary[type[ComponentConfig], Owner] = WeakKeyDictionary()


def owner_of(component: type[ComponentConfig]) -> Owner | None:
    """Return the plugin that registered the component last; None if there is none."""
    return _OWNERS.get(component)


@dataclass(frozen=True)
class Registered:
    """A component, its plugin and its distribution."""

    component: type[ComponentConfig]
    plugin: str
    distribution: str


class Registry:
    """Components by kind and name, passed to the hook of a plugin.

    Args:
        plugin: name of the plugin that fills this registry; empty for the registry of all plugins.
        distribution: name and version of the plugin's distribution, or the path of its file.
    """

    def __init__(self, plugin: str = "", distribution: str = "") -> None:
        self._entries: dict[tuple[Kind, str], Registered] = {}
        self._quarantined: dict[str, str] = {}
        self._plugin = plugin
        self._distribution = distribution

    def add(self, component: type[ComponentConfig]) -> None:
        """Register a component; its base class is its kind, its class name is its name in recipes.

        Raises: PluginError if it is not a component, violates the contract of its kind, or has a name that another
            component of this kind has.
        """
        if not (isinstance(component, type) and issubclass(component, tuple(KINDS.values()))):
            bases = ", ".join(base.__name__ for base in KINDS.values())
            raise PluginError(f"{component!r} is not a component: subclass one of {bases}")
        for fault in _contract_faults(component):
            raise PluginError(f'{component.kind} component "{component.component_name()}": {fault}')
        entry = Registered(component, self._plugin, self._distribution)
        key = (component.kind, component.component_name())
        if key in self._entries:
            raise PluginError(duplicate_message(entry, self._entries[key]))
        self._entries[key] = entry
        _OWNERS[component] = Owner(self._plugin, self._distribution)

    def absorb(self, other: Registry) -> None:
        """Add all components of another registry, or none. Raises PluginError for a duplicate name."""
        for key, entry in other._entries.items():
            if key in self._entries:
                raise PluginError(duplicate_message(entry, self._entries[key]))
        self._entries.update(other._entries)

    def quarantine(self, plugin: str, reason: str, distribution: str = "") -> None:
        """Record why a plugin is not used, for the message of an unknown name."""
        self._quarantined[plugin] = (
            f"{plugin} ({distribution}): {reason}" if distribution else f"{plugin}: {reason}"
        )

    def get(self, kind: Kind, name: str) -> type[ComponentConfig]:
        """Return the component of this name. Raises PluginError that lists near, known and quarantined names."""
        entry = self._entries.get((kind, name))
        if entry is not None:
            return entry.component
        known = {n: e for (k, n), e in sorted(self._entries.items()) if k == kind}
        message = f'no {kind} component is called "{name}"'
        near = difflib.get_close_matches(name, known, n=1)
        if near:
            message += f'; nearest: "{near[0]}" (plugin {known[near[0]].plugin})'
        message += f"\n  known: {', '.join(known) or 'none'}"
        for _, reason in sorted(self._quarantined.items()):
            message += f"\n  quarantined: plugin {reason}"
        raise PluginError(f"{message}\n  see: x2kit plugins list --kind {kind}")

    def __iter__(self) -> Iterator[Registered]:
        """Iterate over all entries, by kind and name."""
        return iter(entry for _, entry in sorted(self._entries.items()))


def duplicate_message(new: Registered, old: Registered) -> str:
    """Format the error for a duplicate name."""
    what = f'{new.component.kind} component "{new.component.component_name()}"'
    if (new.plugin, new.distribution) == (old.plugin, old.distribution):
        return f"{what} is a duplicate in plugin {new.plugin} ({new.distribution}); remove or rename one"
    return (
        f"{what} of plugin {new.plugin} ({new.distribution}) is already "
        f"registered by plugin {old.plugin} ({old.distribution}); rename one or uninstall one distribution"
    )


def _contract_faults(component: type[ComponentConfig]) -> Iterator[str]:
    """Find violations of the contract of the kind, worst first."""
    missing = sorted(component.__abstractmethods__)
    if missing:
        base_name = KINDS[component.kind].__name__
        yield f"{', '.join(missing)} not implemented; see x2kit.plugin.{base_name}"
    for setting, needed in (("frozen", True), ("extra", "forbid")):
        found = component.model_config.get(setting)
        if found != needed:
            yield f"model_config has {setting}={found!r} and must keep {setting}={needed!r}"
    base = KINDS[component.kind]
    for name in sorted(base.__abstractmethods__):
        method = inspect.getattr_static(component, name)
        if not isinstance(method, FunctionType):
            continue  # another descriptor, whose arguments are unknown until it is called
        _, *contract = inspect.signature(getattr(base, name)).parameters.values()
        try:
            inspect.signature(method).bind(None, **{parameter.name: None for parameter in contract})
        except TypeError as error:
            wanted = ", ".join(["self", *(str(p.replace(annotation=p.empty)) for p in contract)])
            yield f"{name} does not take the arguments of its contract, {name}({wanted}): {error}"
