"""Settings of the grounding tasks. Imports no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from x2kit.plugin.components import TaskConfig

if TYPE_CHECKING:
    from x2kit.plugin.tasks import TaskContext
    from x2kit.tasks.grounding.metric import Locator


class RegionTask(TaskConfig):
    """Settings that the grounding tasks share: what is measured, and what counts as found."""

    metrics: ClassVar[tuple[str, ...]] = ("grounding_mean_trained", "grounding_mean_zero_shot")

    iou: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="a prediction is a hit from this intersection over union; an overlap of at most one pixel along "
        "either axis counts as none, as in the evaluation of RefCOCO+",
    )
    common_subset: bool = Field(
        False,
        description="measure only regions that have a text in every measured language that has region texts, so that "
        "languages can be compared",
    )

    def check(self, context: TaskContext) -> None:
        """Raise DataError if no region has a text in any language, HeadError for a model that cannot predict boxes."""
        from x2kit.tasks.grounding.metric import select_regions
        from x2kit.tasks.records import read_entries

        self.locator(context.model)
        select_regions(self, context.languages, read_entries(context.source, context.ranks))

    @abstractmethod
    def locator(self, model: Any) -> Locator:
        """Return the way in which boxes are predicted. Raises HeadError for a model without what it needs."""
        raise NotImplementedError

    def run(self, context: TaskContext) -> Mapping[str, Any]:
        """Measure the share of hits by language; see `x2kit.tasks.grounding.metric`."""
        from x2kit.tasks.grounding.metric import measure_grounding

        return measure_grounding(self, context)


class Grounding(RegionTask):
    """Visual grounding: predict the box of a region from its text and the whole image."""

    def missing_heads(self, heads: Any) -> Mapping[str, str]:
        return {} if "bbox" in heads.built else {"built": "has no box head; add bbox"}

    def locator(self, model: Any) -> Locator:
        from x2kit.tasks.grounding.metric import BoxHead

        return BoxHead(model)


class WeakGrounding(RegionTask):
    """Weakly supervised grounding: find a region by the attention of a model that was trained without boxes.

    The map of a text over the patches is cross-attention × positive part of the gradient of the matching logit, in
    one layer of the fusion encoder. The box is the detection of the record with the highest sum of the map over
    area^alpha; in a record without detections, of all boxes of whole patches. Needs the matching head only.
    """

    layer: int | None = Field(
        None,
        ge=0,
        description="layer of the fusion encoder whose attention is read, from 0; null for that after half of them, "
        "the fourth of six in X-VLM",
    )
    alpha: float = Field(0.5, ge=0, description="power of the area by which the sum over a box is divided")

    def missing_heads(self, heads: Any) -> Mapping[str, str]:
        return {} if "itm" in heads.built else {"built": "has no matching head; add itm"}

    def locator(self, model: Any) -> Locator:
        from x2kit.tasks.grounding.attention import AttentionMap

        return AttentionMap(self, model)
