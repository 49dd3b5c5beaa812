"""Validate an imported plugin before its hooks are called. Imports no torch."""

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
    """Create a pluggy manager with the hook specifications and no plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def hook_names() -> list[str]:
    """List the hooks."""
    return [name for name in dir(hookspecs) if hasattr(getattr(hookspecs, name), f"{PROJECT}_spec")]


def admit(plugin: object, name: str, manager: pluggy.PluginManager) -> None:
    """Register the plugin's hooks with the manager.

    Raises: PluginError if it needs another API version, has no hook, an unknown one, or one with unknown arguments.
        The manager is then unchanged.
    """
    _require_api(plugin)
    found = list(_hooks(plugin, manager))
    if not found:
        raise PluginError(
            "has no hook; write `@hookimpl def x2kit_register(registry)` and call registry.add with each component"
        )
    try:
        manager.register(plugin, name)
    except pluggy.PluginValidationError as error:
        # pluggy 1.6 leaves a rejected plugin registered, 1.7 does not.
        if manager.is_registered(plugin):
            manager.unregister(plugin)
        raise PluginError(
            f"a hook has unknown arguments: {'; '.join(str(error).splitlines())}; "
            "use the signature in x2kit.plugin.hookspecs"
        ) from error


def _require_api(plugin: object) -> None:
    """Compare `x2kit_api`, a PEP 440 specifier or a number, with the API version of this x2kit."""
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
            "install a matching version of the plugin or of x2kit"
        )


def _specifier(text: str) -> SpecifierSet:
    try:
        return SpecifierSet(f"=={Version(text)}")
    except InvalidVersion:
        return SpecifierSet(text)


def _hooks(plugin: object, manager: pluggy.PluginManager) -> Iterator[str]:
    """Iterate over the hooks of a plugin. Raises PluginError for a misspelt or unmarked one."""
    known = hook_names()
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            # Functions only: `import x2kit_timm` also creates a name with this prefix.
            intended = name.startswith(f"{PROJECT}_") and inspect.isfunction(
                inspect.getattr_static(plugin, name)
            )
            if intended and name in known:
                raise PluginError(f"function {name} lacks the decorator @hookimpl of x2kit.plugin")
            if intended:
                raise PluginError(_no_such_hook(name, known))
            continue
        hook = options.get("specname") or name
        if hook in known:
            yield hook
        elif not options.get("optionalhook"):
            raise PluginError(_no_such_hook(hook, known))


def _no_such_hook(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
    return f"unknown hook {name}; nearest: {near}; known: {', '.join(known)}"
