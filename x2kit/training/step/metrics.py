"""Count accuracies and padding on the device, read only when they are logged. Imports torch.

`docs/reference/metrics.md` lists the names.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from x2kit.data.pipeline.batch import Batch, Rows
from x2kit.distributed.processes import Processes
from x2kit.model import X2VLM
from x2kit.model.x2vlm import TEMPERATURE_RANGE
from x2kit.training.step.encoder_passes import clean_texts


class StepMetrics:
    """Accumulate hits and totals of one step."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def add(self, name: str, hits: Tensor, counted: Tensor) -> None:
        """Add to a share: bool tensors of one shape; hits count where `counted` is True."""
        total, of = self._counts.get(name, (0, 0))
        self._counts[name] = (total + (hits & counted).sum(), of + counted.sum())

    def matching(self, name: str, logits: Tensor, valid: Tensor | None) -> None:
        """Count the correct answers of the matching head.

        Args:
            name: stream and loss.
            logits: [3B, 2], one third matching pairs, two thirds hard negatives.
            valid: [3B] bool, rows that count; None for all.
        """
        matched = logits.detach().argmax(1) == 1
        counted = torch.ones_like(matched) if valid is None else valid
        rows = len(matched) // 3
        self.add(f"{name}_positive_accuracy", matched[:rows], counted[:rows])
        self.add(f"{name}_negative_accuracy", ~matched[rows:], counted[rows:])

    def padding(self, streams: Mapping[str, Rows]) -> None:
        """Count the padding in the texts of each stream."""
        for name, rows in streams.items():
            for texts in clean_texts(rows):
                # A mask per token hides padding on its diagonal.
                mask = texts.mask if texts.positions is None else texts.mask.diagonal(dim1=1, dim2=2)
                self.add(f"{name}.padding", ~mask, torch.ones_like(mask))

    def read(self, processes: Processes) -> dict[str, float]:
        """Return the shares over all ranks that have a total above 0; synchronises the device."""
        own = {name: (float(hits), float(counted)) for name, (hits, counted) in self._counts.items()}
        gathered = processes.gather(own)
        # In parts of a step, a rank without rows of a stream has no count of it.
        names = dict.fromkeys(name for each in gathered for name in each)
        sums = {
            name: [sum(each.get(name, (0.0, 0.0))[place] for each in gathered) for place in (0, 1)]
            for name in names
        }
        return {name: hits / counted for name, (hits, counted) in sums.items() if counted}


def region_images(batch: Batch) -> dict[str, float]:
    """Count images of each region stream, and those dropped, by reason, if any. Equal on every rank."""
    values: dict[str, float] = {}
    for name, images in (batch.regions or {}).items():
        values[f"{name}.images_held"] = images.held
        dropped = {
            "images_broken": images.broken,
            "images_empty": images.empty,
            "images_over_limit": images.over_limit,
            "images_repeated": images.repeated,
            "rows_over_limit": images.rows_over_limit,
        }
        values |= {f"{name}.{reason}": count for reason, count in dropped.items() if count}
    return values


@torch.no_grad()
def temperatures(model: X2VLM) -> dict[str, Tensor]:
    """Return the temperatures, and 1 for each at a limit of its range, else 0; scalars on the device."""
    if not hasattr(model, "temperature"):
        return {}
    named = {"temperature": model.temperature}
    if model.text_temperature is not model.temperature:
        named["text_temperature"] = model.text_temperature
    lowest, highest = TEMPERATURE_RANGE
    values = {name: value.detach().clone() for name, value in named.items()}
    clamped = {
        f"{name}_clamped": ((value <= lowest) | (value >= highest)).float() for name, value in values.items()
    }
    return values | clamped
