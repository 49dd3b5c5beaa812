"""The hooks. A plugin is a module that implements some of them. Imports no torch."""

from __future__ import annotations

import pluggy

from x2kit.plugin.registry import Registry

PROJECT = "x2kit"
API_VERSION = 1
"""The version of x2kit.plugin. A plugin may say which it needs: `x2kit_api = "1"` or `">=1,<3"`."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def x2kit_register(registry: Registry) -> None:
    """Add this plugin's components: `registry.add(MyEncoder)`. Import no torch and no model library here."""
