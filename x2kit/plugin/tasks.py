"""The contract of evaluation tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from x2kit.distributed.ranks import Ranks
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
        trained_with_images: codes whose texts stood beside images in training.
        device: where the model is.
        batch_size: images (or texts) a batch.
        progress: `progress(what, done, total)` shows how far the task is.
        ranks: the processes that measure together; one, unless torchrun started several.
    """

    model: Any
    source: Source
    split: str
    languages: Sequence[str]
    trained_with_images: Sequence[str]
    device: torch.device
    batch_size: int
    progress: Callable[[str, int, int], None]
    ranks: Ranks = field(default_factory=Ranks)
