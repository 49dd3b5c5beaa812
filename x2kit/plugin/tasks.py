"""The contract of evaluation tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from x2kit.plugin.sources import Source

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TaskContext:
    """What a task is given.

    Attributes:
        model: an X2VLM in evaluation mode on `device`; use its public methods.
        source: the records of the split that is measured.
        split: its name.
        languages: codes of the languages to measure, in order.
        trained_with_images: codes whose texts stood beside pictures in training.
        batch_size: pictures (or texts) a batch.
        progress: `progress(what, done, total)` shows how far the task is.
    """

    model: Any
    source: Source
    split: str
    languages: Sequence[str]
    trained_with_images: Sequence[str]
    device: torch.device
    batch_size: int
    progress: Callable[[str, int, int], None]
