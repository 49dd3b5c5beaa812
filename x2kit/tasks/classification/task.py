"""Classification: rows, loss, prediction, accuracy. Imports torch.

B rows, A classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from x2kit.errors import DataError, Reason
from x2kit.objectives import chosen_answer_loss
from x2kit.plugin.sources import Record
from x2kit.plugin.tasks import FusedTexts, Prediction, Reader, Task, TaskRow

if TYPE_CHECKING:
    from x2kit.tasks.classification.config import Classification


class ClassificationTask(Task):
    """Cross-entropy over the classes; the answer head reads position 0 of the fused states.

    Sources: X2-VLM repository, models/model_classification.py (XVLMForNLVR, XVLMPlusForMARVL, XVLMPlus4XVNLI); X-VLM
    repository, models/model_nlvr.py.
    """

    config: Classification

    def __init__(self, config: Classification) -> None:
        super().__init__(config)
        # by type too: False equals 0
        self._numbers: dict[tuple[type, object], int] = {
            (type(label), label): number for number, label in enumerate(config.classes)
        }

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        """Read sentence, images and label; every image is cropped, flipped and augmented on its own.

        Only training needs the label: a record without one is predicted and not scored.
        """
        if record.get("caption") is None:
            raise DataError("no caption, the sentence to classify", reason=Reason.FIELD_MISSING)
        text = reader.text(record["caption"])  # first: a missing language costs no image
        label = record.get("label")
        targets = {} if label is None and not reader.training else {"label": self._number(label)}
        return TaskRow(self._images(record, reader), [text], targets if reader.training else {}, truth=label)

    def _number(self, label: object) -> int:
        number = self._numbers.get((type(label), label))
        if number is None:
            raise DataError(
                f"label: expected one of {_listed(self.config.classes)}, found {label!r}; see the classes of the task, "
                "and label_as of the source",
                reason=Reason.FIELD_MISSING if label is None else Reason.FIELD_TYPE,
            )
        return number

    def _images(self, record: Record, reader: Reader) -> list[Any]:
        wanted = self.config.images
        if wanted == 1 and record.get("video") is not None:
            return [reader.video(record["video"])]
        given = record.get("image") if wanted == 1 else record.get("images")
        if given is None:
            field = "image" if wanted == 1 else "images"
            raise DataError(f"no {field}, but the task reads {wanted}", reason=Reason.FIELD_MISSING)
        images = [given] if wanted == 1 else given
        if len(images) != wanted:
            raise DataError(
                f"images: expected {wanted}, found {len(images)}; see images of the task",
                reason=Reason.FIELD_TYPE,
            )
        return [reader.image(image) for image in images]

    def logits(self, model: Any, fused: Sequence[FusedTexts]) -> Tensor:
        """Compute the logits [B, A] of the classes."""
        found: Tensor = model.answer_logits([each.states for each in fused])
        return found

    def loss(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return {"label": chosen_answer_loss(self.logits(model, fused), targets["label"])}

    def predict(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> Sequence[bool | int | str]:
        """Return the likeliest class of each row."""
        return [self.config.classes[number] for number in self.logits(model, fused).argmax(1).tolist()]

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Compute the accuracy over rows with a label, beside chance and the most frequent class; None without any."""
        scored = [each for each in predictions if each.truth is not None]
        truths = Counter(each.truth for each in scored)
        correct = sum(each.value == each.truth for each in scored)
        unlabelled = len(predictions) - len(scored)
        return {
            "accuracy": correct / len(scored) if scored else None,
            "chance": 1 / len(self.config.classes),
            "most_frequent": max(truths.values()) / len(scored) if scored else None,
            "correct": correct,
            "rows": len(scored),
            **({"unlabelled_rows": unlabelled} if unlabelled else {}),
        }

    def items(self, predictions: Sequence[Prediction]) -> dict[str, list[float | None]]:
        """Score each labelled row, 1 or 0."""
        right = [None if each.truth is None else float(each.value == each.truth) for each in predictions]
        return {"accuracy": right}


def _listed(classes: Sequence[object]) -> str:
    return ", ".join(map(repr, classes))
