"""The right twin: is the image of the colour that its text names. Each wrong task beside it changes one thing.

Imports no torch, as the settings of a plugin must not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from x2kit.plugin import HeadConfig, Record, TaskConfig

if TYPE_CHECKING:
    from torch import nn

    from x2kit.plugin import Task


class TruthHead(HeadConfig):
    """A linear layer."""

    def build(self, width: int) -> nn.Module:
        from torch import nn

        return nn.Linear(width, 2)


class RightTask(TaskConfig):
    """Whether a text names the colour of its image."""

    losses: ClassVar[tuple[str, ...]] = ("truth",)

    head: str = Field("truth", description="name of its head")

    def missing_heads(self, heads: Any) -> Mapping[str, str]:
        return {} if self.head in heads.extra else {"extra": f"missing: {self.head}"}

    def network(self) -> Any:
        from tests.testing.wrong.tasks.network import TruthTask

        return TruthTask

    def build(self) -> Task:
        task: Task = self.network()(self)
        return task


HEADS = {"built": [], "extra": {"truth": TruthHead()}}
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
TEXTS = ["red", "a green square", "blue", "a square that is as red as can be"]
RECORDS: list[Record] = [
    {
        "id": str(number),
        "image": np.full((24, 24, 3), COLOURS[colour], np.uint8),
        "caption": {"en": text},
        "label": colour in text,
    }
    for number, (text, colour) in enumerate(zip(TEXTS, ["red", "blue", "blue", "red"], strict=True))
]
