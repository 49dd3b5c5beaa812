"""Register the vision towers of open_clip."""

from __future__ import annotations

from x2kit.plugin import Registry, hookimpl
from x2kit_openclip.config import ClipVision, OpenClipVision

__all__ = ["ClipVision", "OpenClipVision", "x2kit_register"]

x2kit_api = "1"


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the vision towers."""
    for component in (ClipVision, OpenClipVision):
        registry.add(component)
