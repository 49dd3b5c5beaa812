"""Helpers for plugin authors, as stable as `x2kit.plugin`: weights, official keys, tokenizers, positions.

A name is imported from here: `from x2kit.plugin.toolkit import load_exactly`. Helpers that need torch import it on
first access, so that modules of settings stay light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from x2kit.plugin.toolkit.gather import gather_rows
    from x2kit.plugin.toolkit.official_keys import NameTable, Shapes, count, usual_heads
    from x2kit.plugin.toolkit.positions import (
        resize_positions,
        resize_relative_positions,
        sinusoid_2d,
        window_side,
    )
    from x2kit.plugin.toolkit.pretrained import (
        chosen_layers,
        load_image_spec,
        local_path,
        pretrained_file,
        pretrained_weights,
        published_config,
        published_model,
        read_json,
        save_image_spec,
    )
    from x2kit.plugin.toolkit.sentencepiece import SentencePiece, SentencePieceTokenizer
    from x2kit.plugin.toolkit.weights import list_names, load_exactly, read_weights, rename_layer_norms

MODULES = {
    "pretrained": (
        "local_path",
        "pretrained_file",
        "pretrained_weights",
        "published_config",
        "published_model",
        "read_json",
        "chosen_layers",
        "save_image_spec",
        "load_image_spec",
    ),
    "weights": ("read_weights", "load_exactly", "rename_layer_norms", "list_names"),
    "official_keys": ("NameTable", "Shapes", "count", "usual_heads"),
    "positions": ("sinusoid_2d", "resize_positions", "resize_relative_positions", "window_side"),
    "sentencepiece": ("SentencePiece", "SentencePieceTokenizer"),
    "gather": ("gather_rows",),
}
"""Names by module, in the order of the documentation."""

_MODULE_OF = {name: module for module, names in MODULES.items() for name in names}

__all__ = [
    "NameTable",
    "SentencePiece",
    "SentencePieceTokenizer",
    "Shapes",
    "chosen_layers",
    "count",
    "gather_rows",
    "list_names",
    "load_exactly",
    "load_image_spec",
    "local_path",
    "pretrained_file",
    "pretrained_weights",
    "published_config",
    "published_model",
    "read_json",
    "read_weights",
    "rename_layer_norms",
    "resize_positions",
    "resize_relative_positions",
    "save_image_spec",
    "sinusoid_2d",
    "usual_heads",
    "window_side",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
