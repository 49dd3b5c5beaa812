"""Settings of the core's evaluation tasks. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from x2kit.plugin.components import TaskConfig
from x2kit.plugin.hookspecs import hookimpl
from x2kit.plugin.registry import Registry
from x2kit.tasks.retrieval.right_answers import Positives

if TYPE_CHECKING:
    from x2kit.plugin.tasks import TaskContext


Rerank = Literal["combined", "matching", "none"]


class Retrieval(TaskConfig):
    """Images or videos to texts and back, by similarity and re-ranked by the matching head."""

    frames: int | None = Field(
        None,
        gt=0,
        description="frames of a video that are seen; null for as many as the model has positions for",
    )
    top_k: int = Field(16, gt=0, description="candidates of each query that the matching head looks at")
    rerank: Rerank = Field(
        "combined",
        description="order of the candidates: combined (similarity / temperature + itm_weight * log p(match)), "
        "matching (the official way: the matching logit alone), or none",
    )
    itm_weight: float = Field(0.5, ge=0, description="combined: factor of log p(match)")
    positives: Positives = Field(
        "row",
        description="right answers beside those of the own record: row (none), text (images with an equal text), "
        "image (texts of equal images)",
    )
    common_subset: bool = Field(
        False,
        description="measure only records that have a caption in every measured language, so that languages can be "
        "compared",
    )
    max_words: int = Field(40, gt=0, description="words of a text that are kept")
    max_tokens: int = Field(
        40,
        gt=2,
        description="tokens of a text that are kept, special ones included; never more than the encoder's",
    )

    def check(self, context: TaskContext) -> None:
        """Raise DataError for a language in which no record has a caption."""
        from x2kit.tasks.records import read_entries
        from x2kit.tasks.retrieval.metric import queries_of

        queries_of(self, context.languages, read_entries(context.source, context.ranks))

    def run(self, context: TaskContext) -> Mapping[str, Any]:
        """Recalls by language and direction; see `x2kit.tasks.retrieval.metric`."""
        from x2kit.tasks.retrieval.metric import measure_retrieval

        return measure_retrieval(self, context)


class Grounding(TaskConfig):
    """Where a named part of an image is: the box predicted from its text and the whole image."""

    iou: float = Field(
        0.5, gt=0, lt=1, description="a box counts as found above this intersection over union"
    )
    common_subset: bool = Field(
        False,
        description="measure only regions that have a text in every measured language of which any region has one, so "
        "that languages can be compared",
    )
    max_words: int = Field(40, gt=0, description="words of a text that are kept")
    max_tokens: int = Field(
        40,
        gt=2,
        description="tokens of a text that are kept, special ones included; never more than the encoder's",
    )

    def check(self, context: TaskContext) -> None:
        """Raise DataError if no region has a text in any language."""
        from x2kit.tasks.grounding.metric import regions_of
        from x2kit.tasks.records import read_entries

        regions_of(self, context.languages, read_entries(context.source, context.ranks))

    def run(self, context: TaskContext) -> Mapping[str, Any]:
        """Share of boxes found, by language; see `x2kit.tasks.grounding.metric`."""
        from x2kit.tasks.grounding.metric import measure_grounding

        return measure_grounding(self, context)


x2kit_api = "1"


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Add the tasks."""
    registry.add(Retrieval)
    registry.add(Grounding)
