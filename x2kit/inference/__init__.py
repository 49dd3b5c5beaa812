"""Use a model: embed, match, rank, classify, locate, answer, describe, explain. Torch is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from x2kit.inference.loading import load
    from x2kit.inference.model import Model
    from x2kit.inference.results import (
        Answer,
        Box,
        Classification,
        Description,
        Embeddings,
        Explanation,
        InputError,
        Location,
        Match,
        Ranked,
        Ranking,
        Scored,
        WordMap,
    )

__all__ = [
    "Answer",
    "Box",
    "Classification",
    "Description",
    "Embeddings",
    "Explanation",
    "InputError",
    "Location",
    "Match",
    "Model",
    "Ranked",
    "Ranking",
    "Scored",
    "WordMap",
    "load",
]

_LAZY = {"load": "loading", "Model": "model"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"x2kit.inference.{_LAZY.get(name, 'results')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
