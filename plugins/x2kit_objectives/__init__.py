"""Register objectives beyond those of the paper."""

from __future__ import annotations

from x2kit.plugin import Registry, hookimpl
from x2kit_objectives.distillation import TextDistillation
from x2kit_objectives.sigmoid import SigmoidContrastive

__all__ = ["SigmoidContrastive", "TextDistillation", "x2kit_register"]


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the objectives."""
    registry.add(SigmoidContrastive)
    registry.add(TextDistillation)
