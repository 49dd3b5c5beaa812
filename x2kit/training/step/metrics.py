"""What is logged beside the losses: shares that are counted on the device, and only read where a line is written.

`docs/reference/metrics.md` has the names. Imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from x2kit.data.pipeline.batch import Batch, ParallelRows, Rows
from x2kit.distributed.processes import Processes
from x2kit.model import X2VLM
from x2kit.model.x2vlm import TEMPERATURE_RANGE


class StepMetrics:
    """Counts of one step: what is right, or padding, out of how many."""

    def __init__(self) -> None:
        self._counts: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def add(self, name: str, hits: Tensor, counted: Tensor) -> None:
        """More of a share: bool tensors of one shape; hits count where `counted` is True."""
        found, of = (hits & counted).sum(), counted.sum()
        before = self._counts.get(name)
        self._counts[name] = (found, of) if before is None else (before[0] + found, before[1] + of)

    def matching(self, name: str, logits: Tensor, valid: Tensor | None) -> None:
        """Accuracy of the matching head.

        Args:
            name: stream and loss.
            logits: [3B, 2], a third pairs that match, two thirds hard negatives.
            valid: [3B] bool, which count; None for all.
        """
        matched = logits.detach().argmax(1) == 1
        counted = torch.ones_like(matched) if valid is None else valid
        rows = len(matched) // 3
        self.add(f"{name}_positive_accuracy", matched[:rows], counted[:rows])
        self.add(f"{name}_negative_accuracy", ~matched[rows:], counted[rows:])

    def padding(self, streams: Mapping[str, Rows]) -> None:
        """Share of padding in the texts of each stream."""
        for name, rows in streams.items():
            texts = [rows.first, rows.second] if isinstance(rows, ParallelRows) else [rows.texts]
            for one in texts:
                self.add(f"{name}.padding", ~one.mask, torch.ones_like(one.mask))

    def read(self, processes: Processes) -> dict[str, float]:
        """The shares, over all processes; waits for the device. A share of nothing is left out."""
        parts = {
            f"{name}/{part}": value
            for name, counts in self._counts.items()
            for part, value in zip(("hits", "counted"), counts, strict=True)
        }
        found = processes.mean(parts)
        return {
            name: found[f"{name}/hits"] / found[f"{name}/counted"]
            for name in self._counts
            if found[f"{name}/counted"]
        }


def region_images(batch: Batch) -> dict[str, float]:
    """Images of each region stream, and those left out by reason; what is 0 is left out. The same on every rank."""
    values: dict[str, float] = {}
    for name, images in (batch.regions or {}).items():
        values[f"{name}.images_held"] = images.held
        left_out = {
            "images_broken": images.broken,
            "images_empty": images.empty,
            "images_over_limit": images.over_limit,
            "images_repeated": images.repeated,
            "rows_over_limit": images.rows_over_limit,
        }
        values |= {f"{name}.{reason}": count for reason, count in left_out.items() if count}
    return values


@torch.no_grad()
def temperatures(model: X2VLM) -> dict[str, Tensor]:
    """The temperatures of a model, and 1 or 0: whether each is at an end of its range. Scalars on the device."""
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
