"""What must hold of an imported plugin before its hooks are called. Imports no torch."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator

import pluggy
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from x2kit.errors import PluginError
from x2kit.plugin import hookspecs
from x2kit.plugin.hookspecs import API_VERSION, PROJECT


def new_manager() -> pluggy.PluginManager:
    """A pluggy manager that knows the hooks and no plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def hook_names() -> list[str]:
    """The hooks that exist."""
    return [name for name in dir(hookspecs) if hasattr(getattr(hookspecs, name), f"{PROJECT}_spec")]


def admit(plugin: object, name: str, manager: pluggy.PluginManager) -> None:
    """Register the plugin's hooks with the manager.

    Raises: PluginError if it wants another API, misspells a hook, takes arguments that its hook has not, or
        has no hook at all. The manager is then as it was.
    """
    _require_api(plugin)
    found = list(_hooks(plugin, manager))
    if not found:
        raise PluginError(
            "registers nothing, for it has no hook; write `@hookimpl def x2kit_register(registry)` and call "
            "registry.add with each component"
        )
    try:
        manager.register(plugin, name)
    except pluggy.PluginValidationError as error:
        # pluggy 1.6 leaves a refused plugin registered, 1.7 takes it back.
        if manager.is_registered(plugin):
            manager.unregister(plugin)
        raise PluginError(
            f"a hook takes other arguments than x2kit gives: {'; '.join(str(error).splitlines())}; "
            "write it as x2kit.plugin.hookspecs does"
        ) from error


def _require_api(plugin: object) -> None:
    """Compare `x2kit_api`, a PEP 440 specifier or a bare number, with the API that this x2kit has."""
    wanted = getattr(plugin, "x2kit_api", None)
    if wanted is None:
        return
    try:
        specifier = _specifier(str(wanted))
    except InvalidSpecifier as error:
        raise PluginError(
            f'x2kit_api is {wanted!r}; write "{API_VERSION}", or a range like ">=1,<3"'
        ) from error
    if not specifier.contains(str(API_VERSION)):
        raise PluginError(
            f"needs plugin API {wanted}, and this x2kit has API {API_VERSION}; "
            "use a version of the plugin or of x2kit that fits the other"
        )


def _specifier(text: str) -> SpecifierSet:
    try:
        return SpecifierSet(f"=={Version(text)}")
    except InvalidVersion:
        return SpecifierSet(text)


def _hooks(plugin: object, manager: pluggy.PluginManager) -> Iterator[str]:
    """The hooks that the plugin implements. Raises PluginError for a function meant as one that is none."""
    known = hook_names()
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            # Not asked of modules or classes: `import x2kit_timm` leaves a name with our prefix behind, too.
            meant = name.startswith(f"{PROJECT}_") and inspect.isfunction(
                inspect.getattr_static(plugin, name)
            )
            if meant and name in known:
                raise PluginError(f"its function {name} lacks the mark @hookimpl from x2kit.plugin")
            if meant:
                raise PluginError(_no_such_hook(name, known))
            continue
        hook = options.get("specname") or name
        if hook in known:
            yield hook
        elif not options.get("optionalhook"):
            raise PluginError(_no_such_hook(hook, known))


def _no_such_hook(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
    return f"there is no hook {name}; nearest: {near}. Hooks: {', '.join(known)}"
