"""Settings of classification. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from x2kit.plugin.components import TaskConfig

if TYPE_CHECKING:
    from x2kit.tasks.classification.task import ClassificationTask

Label = bool | int | str


class Classification(TaskConfig):
    """Classify a sentence about one or more images: NLVR2 and MaRVL (two images), XVNLI, or classes of your own.

    Reads the fields `caption`, `image` (or `video`, or `images` if there are several) and `label`, and needs the
    answer head (`model.heads.answers`). The `premise` of XVNLI is not read, as in CCLM and X²-VLM.
    """

    losses: ClassVar[tuple[str, ...]] = ("label",)
    metrics: ClassVar[tuple[str, ...]] = ("mean", "mean_trained", "mean_zero_shot")

    classes: tuple[Label, ...] = Field(
        min_length=2,
        description="values of the field label, in the order of the head's outputs: [false, true] for NLVR2 and MaRVL, "
        "[contradiction, entailment, neutral] for XVNLI",
    )
    images: int = Field(1, gt=0, description="images of a record: 2 for NLVR2 and MaRVL")
    fused: Literal["separately", "together"] = Field(
        "separately",
        description="separately: the sentence is fused with each image, and the head gets all states side by side "
        "(X²-VLM); together: with all images in one pass, which needs a fusion encoder of so many images, DoubledCross "
        "(X-VLM, CCLM)",
    )

    @field_validator("classes")
    @classmethod
    def _differ(cls, classes: tuple[Label, ...]) -> tuple[Label, ...]:
        if len({(type(label), label) for label in classes}) < len(classes):
            raise ValueError(f"classes must differ, found {list(classes)}")
        return classes

    @property
    def pairs(self) -> tuple[tuple[int, int | tuple[int, ...]], ...]:
        """The sentence with each image, or with all of them."""
        if self.fused == "together" and self.images > 1:
            return ((0, tuple(range(self.images))),)
        return tuple((0, image) for image in range(self.images))

    def missing_heads(self, heads: Any) -> Mapping[str, str]:
        """Require an answer for each class, and as many images of an answer as are fused separately."""
        found: dict[str, str] = {}
        if heads.answers != len(self.classes):
            found["answers"] = f"should be {len(self.classes)}, the number of classes, found {heads.answers}"
        if heads.answer_images != len(self.pairs):
            found["answer_images"] = (
                f"should be {len(self.pairs)} for images that are fused {self.fused}, found {heads.answer_images}"
            )
        return found

    def build(self) -> ClassificationTask:
        from x2kit.tasks.classification.task import ClassificationTask

        return ClassificationTask(self)
