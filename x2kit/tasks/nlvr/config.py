"""Settings of text assignment and of its head. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from x2kit.errors import DataError
from x2kit.plugin.components import HeadConfig, TaskConfig

if TYPE_CHECKING:
    from torch import nn

    from x2kit.plugin.tasks import TaskContext
    from x2kit.tasks.nlvr.task import TextAssignmentTask

CLASSES = 3


class LinearHead(HeadConfig):
    """A linear layer over the fused summary."""

    outputs: int = Field(gt=0, description="number of outputs")

    def build(self, width: int) -> nn.Module:
        from torch import nn

        return nn.Linear(width, self.outputs)


class TextAssignment(TaskConfig):
    """Tell which of two images a text describes: the first, the second or neither (X-VLM's pretraining for NLVR2).

    Records have an image and a caption, as in pretraining. The other images are hard negatives from the batch, drawn
    by the similarity of images in the common space. Trains the layers of DoubledCross before fine-tuning; measure that
    with Classification.
    """

    losses: ClassVar[tuple[str, ...]] = ("assignment",)

    head: str = Field("assignment", description="name of its LinearHead of 3 outputs in model.heads.extra")

    @property
    def pairs(self) -> tuple[tuple[int, int | tuple[int, ...]], ...]:
        """The text with both chosen images at once."""
        return ((0, (0, 1)),)

    @property
    def drawn_images(self) -> int:
        """One image of a record; the second comes from the batch."""
        return 1

    def missing_heads(self, heads: Any) -> Mapping[str, str]:
        """Require the contrastive head, which gives the similarity of images, and the head of the classes."""
        found = {} if "itc" in heads.built else {"built": "no contrastive head; add itc"}
        head = heads.extra.get(self.head)
        if head is None:
            found["extra"] = f"missing: {self.head}, a LinearHead with {CLASSES} outputs"
        elif getattr(head, "outputs", CLASSES) != CLASSES:
            found[f"extra.{self.head}.outputs"] = f"should be {CLASSES}, found {head.outputs}"
        return found

    def build(self) -> TextAssignmentTask:
        from x2kit.tasks.nlvr.task import TextAssignmentTask

        return TextAssignmentTask(self)

    def check(self, context: TaskContext) -> None:
        """Raise DataError: its negatives depend on the batch, so it is not measured."""
        raise DataError(
            "TextAssignment draws its images from the batch, so it has no result; measure Classification after "
            "fine-tuning, or follow its loss"
        )
