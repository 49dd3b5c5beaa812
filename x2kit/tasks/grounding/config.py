"""Settings of the grounding task. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from x2kit.plugin.components import TaskConfig

if TYPE_CHECKING:
    from x2kit.plugin.tasks import TaskContext


class Grounding(TaskConfig):
    """Visual grounding: predict the box of a region from its text and the whole image."""

    iou: float = Field(
        0.5, gt=0, lt=1, description="a prediction is a hit above this intersection over union"
    )
    common_subset: bool = Field(
        False,
        description="measure only regions that have a text in every measured language that has region texts, so that "
        "languages can be compared",
    )

    def check(self, context: TaskContext) -> None:
        """Raise DataError if no region has a text in any language."""
        from x2kit.tasks.grounding.metric import select_regions
        from x2kit.tasks.records import read_entries

        select_regions(self, context.languages, read_entries(context.source, context.ranks))

    def run(self, context: TaskContext) -> Mapping[str, Any]:
        """Measure the share of hits by language; see `x2kit.tasks.grounding.metric`."""
        from x2kit.tasks.grounding.metric import measure_grounding

        return measure_grounding(self, context)
