"""Load plugins: import, validate, register components, quarantine failures. Imports no torch.

A broken plugin is quarantined with its reason: all others work, `x2kit plugins` shows it, and only recipes that need
it fail. A plugin is loaded as a whole: if one of its components is invalid, none is registered.
"""

from __future__ import annotations

import importlib.metadata
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Literal

import pluggy

from x2kit.errors import PluginError
from x2kit.plugin.components import Kind
from x2kit.plugin.loading.admission import admit, new_manager
from x2kit.plugin.loading.discovery import Candidate, installed, named
from x2kit.plugin.loading.subcommands import Subcommands
from x2kit.plugin.registry import Registry


@dataclass(frozen=True)
class PluginState:
    """State of one plugin after loading.

    Attributes:
        name: entry point, module or stem of the file.
        origin: "entry point", or the text that named it in a recipe or on the command line.
        distribution: name and version of the distribution, or the path of the file.
        components: kind and name of each registered component.
        status: "active" or "quarantined".
        subcommands: names of its subcommands.
        error: reason of the quarantine, and what to do.
        traceback: traceback of that error, for the plugin's author.
    """

    name: str
    origin: str
    distribution: str
    components: tuple[tuple[Kind, str], ...] = ()
    status: Literal["active", "quarantined"] = "active"
    error: str | None = None
    traceback: str | None = None
    subcommands: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plugins:
    """All plugins found, and the components of the active ones."""

    registry: Registry
    states: tuple[PluginState, ...]
    _named: Mapping[str, PluginState] = field(default_factory=dict, repr=False)
    subcommands: Subcommands = field(default_factory=Subcommands)
    _manager: pluggy.PluginManager | None = field(default=None, repr=False)

    @property
    def quarantined(self) -> tuple[PluginState, ...]:
        """The plugins that failed."""
        return tuple(state for state in self.states if state.status == "quarantined")

    def implementing(self, hook: str) -> list[tuple[str, pluggy.HookCaller]]:
        """List the plugins that implement a hook, each with its own hook caller, in the order of loading."""
        if self._manager is None:
            return []
        found = getattr(self._manager.hook, hook).get_hookimpls()
        return [(one.plugin_name, _hook_of(self._manager, one.plugin, hook)) for one in found]

    def state_of(self, name: str) -> PluginState:
        """Return the state of a plugin by its name, or by the text given to `load_plugins`.

        Raises: KeyError if there is none.
        """
        return self._by_name()[name]

    def _by_name(self) -> dict[str, PluginState]:
        return {state.name: state for state in self.states} | dict(self._named)

    def require(self, names: Sequence[str]) -> None:
        """Require that these plugins are active.

        Args:
            names: names of plugins, or texts given to `load_plugins`.
        Raises: PluginError with each plugin that is not, and its reason.
        """
        by_name = self._by_name()
        faults = []
        for name in names:
            if name not in by_name:
                known = ", ".join(state.name for state in self.states) or "none"
                faults.append(f"plugin {name!r} is required but was not found; known: {known}")
            elif by_name[name].error is not None:
                faults.append(f"plugin {name!r} is required but failed: {by_name[name].error}")
        if faults:
            raise PluginError("\n".join([*faults, "  see: x2kit plugins"]))


def load_plugins(extra: Sequence[str] = (), *, base: Path | None = None, strict: bool = False) -> Plugins:
    """Load the installed plugins, then the named ones.

    Args:
        extra: paths of Python files (or folders with `__init__.py`) and module names.
        base: folder where relative paths start; the working directory by default.
        strict: raise instead of quarantining, for authors.
    Raises: PluginError for the first plugin that fails, if `strict`; its cause is the plugin's error.
    """
    loading = _Loading(strict)
    for candidate in chain(installed(), named(extra, base or Path.cwd())):
        loading.add(candidate)
    return Plugins(
        loading.registry, tuple(loading.states), loading.named(), loading.subcommands, loading.manager
    )


class _Loading:
    """State of one call of `load_plugins`."""

    def __init__(self, strict: bool) -> None:
        self.registry = Registry()
        self.subcommands = Subcommands()
        self.states: list[PluginState] = []
        self._strict = strict
        self.manager = new_manager()
        self._indices: dict[str, int] = {}
        """Index in `states` by identity, file and naming text of each candidate."""

    def named(self) -> dict[str, PluginState]:
        """Return the state by identity, file and naming text."""
        return {mention: self.states[index] for mention, index in self._indices.items()}

    def add(self, candidate: Candidate) -> None:
        """Load a plugin, unless it is loaded already under another name."""
        index = self._indices.get(candidate.identity)
        if index is None:
            index = self._load(candidate)
        self._indices.setdefault(candidate.identity, index)
        if candidate.origin != "entry point":
            self._indices[candidate.origin] = index

    def _load(self, candidate: Candidate) -> int:
        """Load a plugin and return its index in `states`; a file that is loaded already is not loaded again."""
        name, distribution = self._unused_name(candidate), candidate.distribution
        try:
            with _attributed("cannot be imported", candidate.remedy):
                plugin = candidate.load()
            file = _file(plugin)
            if file in self._indices:
                return self._indices[file]
            if file:
                self._indices[file] = len(self.states)
            distribution = distribution or file or name
            own, subcommands = Registry(name, distribution), Subcommands(name, distribution)
            self._register(plugin, own, subcommands, name, candidate.remedy)
        except PluginError as error:
            text = f"plugin {name}{f' ({distribution})' if distribution else ''}: {error}"
            if self._strict:
                raise PluginError(text) from error
            trace = "".join(traceback.format_exception(error))
            self.registry.quarantine(name, str(error), distribution)
            state = PluginState(name, candidate.origin, distribution, (), "quarantined", text, trace)
        else:
            components = tuple((entry.component.kind, entry.component.component_name()) for entry in own)
            state = PluginState(
                name,
                candidate.origin,
                distribution,
                components,
                subcommands=tuple(one.name for one in subcommands),
            )
        self.states.append(state)
        return len(self.states) - 1

    def _register(
        self, plugin: object, own: Registry, subcommands: Subcommands, name: str, remedy: str
    ) -> None:
        """Validate the plugin, call its registration hooks, and add all its components and subcommands or none."""
        with _attributed("is invalid", remedy):
            admit(plugin, name, self.manager)
        try:
            with _attributed("its hook x2kit_register raised", remedy):
                _hook_of(self.manager, plugin, "x2kit_register")(registry=own)
            with _attributed("its hook x2kit_subcommands raised", remedy):
                _hook_of(self.manager, plugin, "x2kit_subcommands")(subcommands=subcommands)
            merged = Subcommands()
            merged.absorb(self.subcommands)
            merged.absorb(subcommands)
            self.registry.absorb(own)
            self.subcommands = merged
        except PluginError:
            self.manager.unregister(plugin)
            raise

    def _unused_name(self, candidate: Candidate) -> str:
        """Return the plugin's name, or its long name if another plugin has that."""
        taken = any(state.name == candidate.name for state in self.states)
        return candidate.long_name if taken else candidate.name


def _hook_of(manager: pluggy.PluginManager, plugin: object, hook: str) -> pluggy.HookCaller:
    """Return a hook caller for this plugin only, so that an error is attributed to it."""
    others = [other for other in manager.get_plugins() if other is not plugin]
    return manager.subset_hook_caller(hook, remove_plugins=others)


def _file(plugin: object) -> str | None:
    """Return the file of a module; two modules of one file are one plugin."""
    file = plugin.__file__ if isinstance(plugin, ModuleType) else None
    return str(Path(file).resolve()) if file else None


@contextmanager
def _attributed(what: str, remedy: str) -> Iterator[None]:
    """Convert any error of a plugin's code into a PluginError with file, line and remedy.

    Catches everything except Ctrl-C: a plugin may also raise SystemExit or an exception outside Exception.
    """
    try:
        yield
    except (PluginError, KeyboardInterrupt):
        raise
    except BaseException as error:
        lines = traceback.format_exception_only(error)
        if isinstance(error, SyntaxError):
            lines = lines[-1:]  # the others show the source
        reason = " ".join("".join(lines).split())
        raise PluginError(f"{what}: {reason}{_place(error)}; {remedy}") from error


def _place(error: BaseException) -> str:
    """Return file and line of the plugin's code that raised, if there is any."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_machinery(frame.filename)]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _is_machinery(filename: str) -> bool:
    """Whether a frame belongs to the import system or to this package, not to a plugin."""
    folder = Path(filename).parent
    # importlib_metadata, the backport, replaces importlib.metadata where it is installed
    return (
        filename.startswith("<frozen")
        or folder.name == "importlib_metadata"
        or folder
        in (
            Path(__file__).parent,
            Path(importlib.__file__).parent,
            Path(importlib.metadata.__file__).parent,
        )
    )
