"""Pretrain, modify, evaluate and use X²-VLM models; torch is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from x2kit.data.media.images import ImageLike
    from x2kit.inference import load
    from x2kit.model import X2VLM
    from x2kit.plugin import hookimpl
    from x2kit.recipe import Recipe
    from x2kit.search import Weighted, open_index

__version__ = "0.1.0"  # the only place; pyproject.toml reads it
__all__ = ["X2VLM", "ImageLike", "Recipe", "Weighted", "__version__", "hookimpl", "load", "open_index"]

_LAZY = {
    "X2VLM": "x2kit.model",
    "load": "x2kit.inference",
    "Recipe": "x2kit.recipe",
    "hookimpl": "x2kit.plugin",
    "open_index": "x2kit.search",
    "Weighted": "x2kit.search",
    "ImageLike": "x2kit.data.media.images",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
