"""The model: encoders and heads, regions, saving and loading. Torch is imported on first use of a name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from x2kit.model.build import build_model
    from x2kit.model.regions import boxes_in_pixels
    from x2kit.model.saving import load, save_weights
    from x2kit.model.x2vlm import X2VLM

__all__ = ["X2VLM", "boxes_in_pixels", "build_model", "load", "save_weights"]

_LAZY = {
    "X2VLM": "x2vlm",
    "boxes_in_pixels": "regions",
    "build_model": "build",
    "load": "saving",
    "save_weights": "saving",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"x2kit.model.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
