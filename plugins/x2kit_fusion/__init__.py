"""Register the fusion encoders: the paper's, a pre-norm one, a light one."""

from __future__ import annotations

from x2kit.plugin import Registry, hookimpl
from x2kit_fusion.config import CrossBert, LightCross, PreNormCross

__all__ = ["CrossBert", "LightCross", "PreNormCross", "x2kit_register"]


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the fusion encoders."""
    for component in (CrossBert, PreNormCross, LightCross):
        registry.add(component)
