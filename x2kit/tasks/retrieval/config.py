"""Settings of the retrieval task. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from x2kit.plugin.components import TaskConfig
from x2kit.tasks.retrieval.positives import Positives

if TYPE_CHECKING:
    from x2kit.plugin.tasks import TaskContext

Rerank = Literal["combined", "matching", "none"]


class Retrieval(TaskConfig):
    """Image-text and video-text retrieval by similarity, re-ranked by the matching head."""

    metrics: ClassVar[tuple[str, ...]] = (
        "mean_recall",
        "mean_recall_image_to_text",
        "mean_recall_text_to_image",
        "mean_all",
        "mean_trained",
        "mean_zero_shot",
        "mean_reranked_all",
        "mean_reranked_trained",
        "mean_reranked_zero_shot",
    )

    frames: int | None = Field(
        None,
        gt=0,
        description="frames read of each video; null for as many as the model has positions for",
    )
    top_k: int = Field(16, gt=0, description="candidates of each query that the matching head scores")
    rerank: Rerank = Field(
        "combined",
        description="order of the candidates: combined (similarity / temperature + itm_weight * log p(match)), "
        "matching (as in the official code: the matching logit alone), or none",
    )
    itm_weight: float = Field(0.5, ge=0, description="combined: factor of log p(match)")
    positives: Positives = Field(
        "row",
        description="which answers of other records also count as positives: row (none), text (images with an equal "
        "text), image (texts of equal images)",
    )
    common_subset: bool = Field(
        False,
        description="measure only records that have a caption in every measured language, so that languages can be "
        "compared",
    )
    captions: int | dict[str, int] | None = Field(
        None,
        description="captions that the published set has for each image, or by language; an image with fewer gives a "
        "warning, since recall then cannot be compared with published numbers",
    )

    def check(self, context: TaskContext) -> None:
        """Raise DataError for a language in which no record has a caption."""
        from x2kit.tasks.records import read_entries
        from x2kit.tasks.retrieval.metric import queries_of

        queries_of(self, context.languages, read_entries(context.source, context.ranks))

    def run(self, context: TaskContext) -> Mapping[str, Any]:
        """Measure recall by language and direction; see `x2kit.tasks.retrieval.metric`."""
        from x2kit.tasks.retrieval.metric import measure_retrieval

        return measure_retrieval(self, context)
