"""The core's own evaluation tasks, registered like anybody's. Imports no torch."""

from __future__ import annotations

from x2kit.evaluation.tasks import Localisation, Retrieval
from x2kit.plugin.hookspecs import hookimpl
from x2kit.plugin.registry import Registry

x2kit_api = "1"


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Add the tasks."""
    registry.add(Retrieval)
    registry.add(Localisation)
