"""Train models: step, optimiser, loop, checkpoints, logs. Torch is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from x2kit.training.trainer import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    if name == "train":
        from x2kit.training.trainer import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
