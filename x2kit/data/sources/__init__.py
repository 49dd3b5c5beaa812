"""Register the data sources of the core through the plugin hook. Imports no torch."""

from __future__ import annotations

from x2kit.data.sources.annotation_config import (
    AnnotationFiles,
    CocoAnnotations,
    ReferringExpressions,
    VisualGenomeAnnotations,
)
from x2kit.data.sources.config import HuggingFaceDataset, JsonLines, Mixture, TarShards
from x2kit.plugin.hookspecs import hookimpl
from x2kit.plugin.registry import Registry

x2kit_api = "1"


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register all sources."""
    registry.add(JsonLines)
    registry.add(Mixture)
    registry.add(TarShards)
    registry.add(AnnotationFiles)
    registry.add(CocoAnnotations)
    registry.add(HuggingFaceDataset)
    registry.add(ReferringExpressions)
    registry.add(VisualGenomeAnnotations)
