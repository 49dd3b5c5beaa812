"""Visual entailment: rows, loss, prediction, accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional as F
from x2kit.plugin import DataError, FusedTexts, Prediction, Reader, Reason, Record, Task, TaskRow

if TYPE_CHECKING:
    from . import VisualEntailment


class EntailmentTask(Task):
    """Three-way classification of an image and a sentence."""

    config: VisualEntailment

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        """Read the image, the sentence and the label."""
        for field in ("image", "caption", "label"):
            if record.get(field) is None:
                raise DataError(f"no {field}", reason=Reason.FIELD_MISSING)
        label, labels = record["label"], self.config.labels
        if label not in labels:
            allowed = ", ".join(labels)
            raise DataError(f"label: expected one of {allowed}, found {label!r}", reason=Reason.FIELD_TYPE)
        image, sentence = reader.image(record["image"]), reader.text(record["caption"])
        return TaskRow([image], [sentence], {"label": labels.index(label)}, truth=label)

    def _logits(self, model: Any, fused: Sequence[FusedTexts]) -> Tensor:
        return model.extra_heads[self.config.head](fused[0].states[:, 0]).float()

    def loss(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Cross-entropy over the labels."""
        return {"entailment": F.cross_entropy(self._logits(model, fused), targets["label"])}

    def predict(self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]) -> list[str]:
        """The likeliest label of each row."""
        return [self.config.labels[row] for row in self._logits(model, fused).argmax(1).tolist()]

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Accuracy, beside chance and the most frequent label."""
        rows, truths = len(predictions), Counter(each.truth for each in predictions)
        return {
            "accuracy": sum(each.value == each.truth for each in predictions) / rows,
            "chance": 1 / len(self.config.labels),
            "most_frequent": max(truths.values()) / rows,
            "rows": rows,
        }
