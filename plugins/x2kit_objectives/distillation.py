"""Distillation of a text encoder into another: settings and formula. Imports torch when the loss is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from x2kit.plugin import MeanOver, NameOrPath, ObjectiveConfig

if TYPE_CHECKING:
    from torch import Tensor

    from x2kit.plugin import Objective, StreamFeatures


class TextDistillation(ObjectiveConfig):
    """Give both sides of parallel text the embedding that a teacher gives for the pivot language (arXiv:2004.09813).

    A new text encoder learns languages without images in the embedding space of a model that is trained already. The
    teacher reads the texts of the pivot language in its own tokens. Embeddings are compared by their cosine, as
    retrieval does. The fusion encoder is not taught; ttm and tlm beside it do that.
    """

    over: ClassVar[MeanOver] = "rows"
    taught: ClassVar[bool] = True

    teacher: NameOrPath | None = Field(
        None,
        description="the model that embeds the texts in the pivot language, by any name of a model; null for that of "
        "model.init_from. Its common space has as many dimensions as that of the model",
    )

    def teacher_of(self, init_from: str | None) -> str | None:
        return self.teacher or init_from

    def build(self) -> Objective:
        """Return the formula."""
        return text_distillation


def text_distillation(features: StreamFeatures) -> Tensor:
    """Compute 1 - cosine with the teacher's embedding, summed over both sides (Reimers and Gurevych 2020, eq. 1).

    Args:
        features: of B rows of parallel text; `teacher` must be set.
    Returns: scalar, mean over rows, from 0 to 4.
    """
    if features.teacher is None:
        raise ValueError("no teacher's embeddings")
    cosines = ((features.first + features.second) * features.teacher).sum(1)
    return (2 - cosines).mean()
