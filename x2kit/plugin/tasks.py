"""Contract of evaluation tasks: the context passed to `TaskConfig.run`. Imports no torch."""

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
    """Model, data and settings of an evaluation.

    Attributes:
        model: an X2VLM in eval mode on `device`; use its public methods.
        source: records of the split to measure.
        split: name of the split.
        languages: codes of the languages to measure, in order.
        trained_with_images: codes of languages with image-text pairs in training.
        device: device of the model.
        batch_size: images (or texts) per batch.
        progress: call `progress(what, done, total)` to show progress.
        ranks: ranks that share the evaluation; one, unless started by torchrun.
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
