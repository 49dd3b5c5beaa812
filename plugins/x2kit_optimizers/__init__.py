"""Register optimisers beside AdamW: Muon, Lion, Adafactor, and AdamW without a schedule."""

from __future__ import annotations

from x2kit.plugin import Registry, hookimpl
from x2kit_optimizers.config import Adafactor, Lion, Muon, ScheduleFreeAdamW

__all__ = ["Adafactor", "Lion", "Muon", "ScheduleFreeAdamW", "x2kit_register"]


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the optimisers."""
    registry.add(Adafactor)
    registry.add(Lion)
    registry.add(Muon)
    registry.add(ScheduleFreeAdamW)
