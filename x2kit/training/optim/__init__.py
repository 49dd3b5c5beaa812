"""Parameter groups, schedule, AdamW, gradient norm; its optimisers are the plugin x2kit_training. Imports no torch."""

from __future__ import annotations

from x2kit.plugin.hookspecs import hookimpl
from x2kit.plugin.registry import Registry
from x2kit.training.optim.config import AdamW, OfficialAdamW

__all__ = ["AdamW", "OfficialAdamW"]

x2kit_api = "1"


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the optimisers."""
    registry.add(AdamW)
    registry.add(OfficialAdamW)
