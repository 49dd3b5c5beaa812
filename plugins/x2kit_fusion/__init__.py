"""Register the fusion encoders: the paper's, one for image pairs, a pre-norm one, a light one."""

from __future__ import annotations

from x2kit.plugin import Registry, hookimpl
from x2kit_fusion.config import CrossBert, DoubledCross, LightCross, PreNormCross

__all__ = ["CrossBert", "DoubledCross", "LightCross", "PreNormCross", "x2kit_register"]


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the fusion encoders."""
    for component in (CrossBert, DoubledCross, PreNormCross, LightCross):
        registry.add(component)
