"""A task of two texts and two images a row, with a loss over rows and one over tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from x2kit.plugin import FusedTexts, Prediction, Reader, Record, Task, TaskConfig, TaskRow


class Pairs(TaskConfig):
    """Whether two images are of two texts, and how long the first text is."""

    losses: ClassVar[tuple[str, ...]] = ("same", "length")
    pooled: ClassVar[bool] = False

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Each text with each image."""
        return ((0, 0), (0, 1), (1, 0))

    def build(self) -> Task:
        """Build the task."""
        return PairsTask(self)


class PairsTask(Task):
    """Reads all states of three fused pairs."""

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        """Draw a row of the record's image, twice."""
        image = reader.image(record["image"])
        texts = [reader.text(record["caption"]), reader.text(record["texts"])]  # type: ignore[list-item]
        return TaskRow(
            [image, image], texts, {"same": len(texts[0]) % 2, "weight": [1.0, 2.0]}, truth=texts[0]
        )

    def counts(self, loss: str, targets: Mapping[str, Tensor]) -> Tensor | None:
        """Count the tokens of the loss over tokens."""
        return targets["tokens"] if loss == "length" else None

    def loss(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute a mean over rows, and a mean over the tokens of the first text."""
        pooled = torch.cat([each.states[:, 0] for each in fused], 1).float()
        mask = fused[0].mask
        return {
            "same": F.cross_entropy(pooled[:, :2], targets["same"]),
            "length": fused[1].states[mask].float().square().mean(1).sum() / mask.sum(),
        }

    def predict(self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]) -> list[int]:
        """Predict the larger of two states."""
        return fused[0].states[:, 0, :2].argmax(1).tolist()

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Count the rows."""
        return {"accuracy": 0.5, "chance": 0.5, "rows": len(predictions)}
