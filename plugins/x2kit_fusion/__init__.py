"""Fusion encoders: the paper's, a pre-norm one, a light one. Imports no torch."""

from __future__ import annotations

from x2kit.plugin import Registry, hookimpl
from x2kit_fusion.settings import CrossBert, LightCross, PreNormCross

__all__ = ["CrossBert", "LightCross", "PreNormCross", "x2kit_register"]


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Add the fusion encoders of this plugin."""
    for component in (CrossBert, PreNormCross, LightCross):
        registry.add(component)
