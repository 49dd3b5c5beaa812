"""A task of one file that reads two images, a question and its answers; its losses and scores are no matter here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from x2kit.plugin import (
    DataError,
    FusedTexts,
    Prediction,
    Reader,
    Reason,
    Record,
    Registry,
    Task,
    TaskConfig,
    TaskRow,
    hookimpl,
)


class Asking(TaskConfig):
    """Whether the answer is the first option."""

    losses = ("answer",)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0), (0, 1))

    def build(self) -> Task:
        return AskingTask(self)


class AskingTask(Task):
    def draw(self, record: Record, reader: Reader) -> TaskRow:
        if "question" not in record:
            raise DataError("the record has no field 'question'", reason=Reason.FIELD_MISSING)
        images = [reader.image(one) for one in record["images"]]
        return TaskRow(images, [reader.text(record["question"])], {"right": int(record["label"])})

    def loss(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return {"answer": fused[0].states.mean()}

    def predict(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> Sequence[Any]:
        return targets["right"].tolist()

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        return {"accuracy": 1.0}


@hookimpl
def x2kit_register(registry: Registry) -> None:
    registry.add(Asking)
