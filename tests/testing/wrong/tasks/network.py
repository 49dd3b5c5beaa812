"""The right task, with one method for each thing that a wrong one does otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from tests.testing.wrong.tasks.right import RightTask
from x2kit.plugin import DataError, FusedTexts, Prediction, Reader, Reason, Record, Task, TaskRow


class TruthTask(Task):
    config: RightTask

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        self.require_fields(record)
        label = bool(record["label"])
        return TaskRow(
            [reader.image(record["image"])], [reader.text(record["caption"])], {"label": int(label)}, label
        )

    def require_fields(self, record: Record) -> None:
        if missing := {"image", "caption", "label"} - set(record):
            raise DataError(f"no {missing.pop()}", reason=Reason.FIELD_MISSING)

    def logits(self, model: Any, fused: Sequence[FusedTexts]) -> Tensor:
        logits: Tensor = model.extra_heads[self.config.head](fused[0].states[:, 0])
        return logits.float()

    def loss(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return {"truth": F.cross_entropy(self.logits(model, fused), targets["label"])}

    def predict(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> Sequence[Any]:
        return [bool(row) for row in self.logits(model, fused).argmax(1)]

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        right = sum(each.value == each.truth for each in predictions)
        return {"accuracy": right / len(predictions), "chance": 0.5, "rows": len(predictions)}
