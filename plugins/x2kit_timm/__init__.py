"""Register the vision encoders of timm."""

from __future__ import annotations

from x2kit.plugin import Registry, hookimpl
from x2kit_timm.config import BeitV2, Swin, TimmVision, TimmViT

__all__ = ["BeitV2", "Swin", "TimmViT", "TimmVision", "x2kit_register"]

x2kit_api = "1"


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the vision encoders."""
    for component in (BeitV2, Swin, TimmViT, TimmVision):
        registry.add(component)
