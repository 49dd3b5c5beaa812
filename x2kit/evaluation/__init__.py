"""Evaluation of trained weights in any language. Torch is imported on first use of `evaluate`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from x2kit.evaluation.harness import evaluate
    from x2kit.evaluation.table import render
    from x2kit.evaluation.validation import Validator

__all__ = ["Validator", "evaluate", "render"]

_LAZY = {"evaluate": "harness", "render": "table", "Validator": "validation"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"x2kit.evaluation.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
