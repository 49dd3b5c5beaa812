"""Loading plugins: import, check, ask for components, and set aside what fails. Imports no torch.

One broken plugin harms nothing but itself: it is quarantined with its reason, all others work,
`x2kit plugins` shows it, and only who needs it is refused. A plugin counts as a whole: if one of its
components cannot be taken, none is.
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
from x2kit.plugin.registry import Registry
from x2kit.plugin.subcommands import Subcommands


@dataclass(frozen=True)
class PluginState:
    """What became of one plugin.

    Attributes:
        name: entry point, module or file name without its ending.
        origin: "entry point", or the text that named it in a recipe or on the command line.
        distribution: name and version of what was installed, or the path of the file.
        components: kind and name of each component; none of a quarantined plugin's are in use.
        status: "active" or "quarantined".
        subcommands: names of its subcommands.
        error: why it is quarantined: what happened, and what to do.
        traceback: of that error, for the plugin's author.
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
    """All plugins that were found, and the components of those that work."""

    registry: Registry
    states: tuple[PluginState, ...]
    _named: Mapping[str, PluginState] = field(default_factory=dict, repr=False)
    subcommands: Subcommands = field(default_factory=Subcommands)
    _manager: pluggy.PluginManager | None = field(default=None, repr=False)

    @property
    def quarantined(self) -> tuple[PluginState, ...]:
        """The plugins that are not used."""
        return tuple(state for state in self.states if state.status == "quarantined")

    def implementing(self, hook: str) -> list[tuple[str, pluggy.HookCaller]]:
        """The plugins that implement a hook by name, each with a call of its own, in the order of loading."""
        if self._manager is None:
            return []
        found = getattr(self._manager.hook, hook).get_hookimpls()
        return [(one.plugin_name, _only(self._manager, one.plugin, hook)) for one in found]

    def state_of(self, name: str) -> PluginState:
        """What became of the plugin that was given so to `load_plugins`, or has this name.

        Raises: KeyError if there is none.
        """
        return self._by_name()[name]

    def _by_name(self) -> dict[str, PluginState]:
        return {state.name: state for state in self.states} | dict(self._named)

    def require(self, names: Sequence[str]) -> None:
        """Make sure that these plugins work.

        Args:
            names: as they were given to `load_plugins`, or names of plugins.
        Raises: PluginError that names each plugin that does not, with its reason.
        """
        by_name = self._by_name()
        faults = []
        for name in names:
            if name not in by_name:
                known = ", ".join(state.name for state in self.states) or "none"
                faults.append(f"plugin {name!r} is needed and was not found; known: {known}")
            elif by_name[name].error is not None:
                faults.append(f"plugin {name!r} is needed and cannot be used: {by_name[name].error}")
        if faults:
            raise PluginError("\n".join([*faults, "  see: x2kit plugins"]))


def load_plugins(extra: Sequence[str] = (), *, base: Path | None = None, strict: bool = False) -> Plugins:
    """Load the installed plugins, then the named ones.

    Args:
        extra: paths of Python files (or folders with `__init__.py`) and module names.
        base: where relative paths start; the working directory by default.
        strict: for authors: raise instead of setting aside.
    Raises: PluginError on the first plugin that does not work, if `strict`; its cause is the plugin's error.
    """
    loading = _Loading(strict)
    for candidate in chain(installed(), named(extra, base or Path.cwd())):
        loading.take(candidate)
    return Plugins(
        loading.registry, tuple(loading.states), loading.named(), loading.subcommands, loading.manager
    )


class _Loading:
    """One run of `load_plugins`: what was taken so far."""

    def __init__(self, strict: bool) -> None:
        self.registry = Registry()
        self.subcommands = Subcommands()
        self.states: list[PluginState] = []
        self._strict = strict
        self.manager = new_manager()
        self._places: dict[str, int] = {}
        """Index in `states` by a candidate's identity, its module's file, and the text that named it."""

    def named(self) -> dict[str, PluginState]:
        """The state behind each mention."""
        return {mention: self.states[index] for mention, index in self._places.items()}

    def take(self, candidate: Candidate) -> None:
        """Load one plugin, unless it is a known one under another name."""
        index = self._places.get(candidate.identity)
        if index is None:
            index = self._load(candidate)
        self._places.setdefault(candidate.identity, index)
        if candidate.origin != "entry point":
            self._places[candidate.origin] = index

    def _load(self, candidate: Candidate) -> int:
        """Index in `states` of what became of the plugin, which is a known one if its file is a known one."""
        name, distribution = self._free_name(candidate), candidate.distribution
        try:
            with _contained("cannot be imported", candidate.remedy):
                plugin = candidate.load()
            file = _file(plugin)
            if file in self._places:
                return self._places[file]
            if file:
                self._places[file] = len(self.states)
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
        """Admit the plugin, let it fill its own register and its subcommands, and take these as a whole."""
        with _contained("cannot be read", remedy):
            admit(plugin, name, self.manager)
        try:
            with _contained("its hook x2kit_register raised", remedy):
                _only(self.manager, plugin, "x2kit_register")(registry=own)
            with _contained("its hook x2kit_subcommands raised", remedy):
                _only(self.manager, plugin, "x2kit_subcommands")(subcommands=subcommands)
            taken = Subcommands()
            taken.absorb(self.subcommands)
            taken.absorb(subcommands)
            self.registry.absorb(own)
            self.subcommands = taken
        except PluginError:
            self.manager.unregister(plugin)
            raise

    def _free_name(self, candidate: Candidate) -> str:
        """The plugin's name, or the long one where another plugin has it already."""
        taken = any(state.name == candidate.name for state in self.states)
        return candidate.long_name if taken else candidate.name


def _only(manager: pluggy.PluginManager, plugin: object, hook: str) -> pluggy.HookCaller:
    """The hook of this plugin alone, so that its failure is known to be its own."""
    others = [other for other in manager.get_plugins() if other is not plugin]
    return manager.subset_hook_caller(hook, remove_plugins=others)


def _file(plugin: object) -> str | None:
    """The file of a module; two modules of one file are one plugin."""
    file = plugin.__file__ if isinstance(plugin, ModuleType) else None
    return str(Path(file).resolve()) if file else None


@contextmanager
def _contained(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever foreign code raises into a PluginError that says what happened, where, and what to do.

    This is the boundary to code that is not ours, so it catches everything but the person's own Ctrl-C: a
    plugin may also leave by SystemExit or by an exception class of its own outside Exception.
    """
    try:
        yield
    except (PluginError, KeyboardInterrupt):
        raise
    except BaseException as error:
        lines = traceback.format_exception_only(error)
        if isinstance(error, SyntaxError):
            lines = lines[-1:]  # the others show the code
        reason = " ".join("".join(lines).split())
        raise PluginError(f"{what}: {reason}{_place(error)}; {remedy}") from error


def _place(error: BaseException) -> str:
    """File and line of the plugin's code that raised, where there is one."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}, line {error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_machinery(frame.filename)]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _is_machinery(filename: str) -> bool:
    """Whether a frame belongs to the import system or to this package, which are never what went wrong."""
    folder = Path(filename).parent
    if (
        folder.name == "importlib_metadata"
    ):  # the same for older Pythons, which puts itself before that of this one
        return True
    return filename.startswith("<frozen") or folder in (
        Path(__file__).parent,
        Path(importlib.__file__).parent,
        Path(importlib.metadata.__file__).parent,
    )
