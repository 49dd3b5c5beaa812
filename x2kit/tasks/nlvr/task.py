"""Text assignment: rows, images drawn from the batch, loss. Imports torch.

B rows, I images of a row, M images of the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from x2kit.errors import DataError, Reason
from x2kit.objectives.text_assignment import Assignment, assign_images, similar_image_weights
from x2kit.plugin.encoders import VisionFeatures
from x2kit.plugin.sources import Record
from x2kit.plugin.tasks import FusedTexts, Prediction, Reader, Task, TaskRow

if TYPE_CHECKING:
    from x2kit.tasks.nlvr.config import TextAssignment


class TextAssignmentTask(Task):
    """Cross-entropy over three classes; see `x2kit.objectives.text_assignment` for the draws."""

    config: TextAssignment

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        """Read an image and one of its captions."""
        for field in ("image", "caption"):
            if record.get(field) is None:
                raise DataError(f"no {field}", reason=Reason.FIELD_MISSING)
        return TaskRow([reader.image(record["image"])], [reader.text(record["caption"])])

    def choose_images(
        self, model: Any, features: VisionFeatures, images: Tensor, targets: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Draw two images of this stream's for each text. Raises ShapeError for fewer than 3 distinct ones."""
        distinct, own = torch.unique(images[:, 0], return_inverse=True)
        projected = model.project_images(features.summary[distinct])
        assigned = self.assign(projected, own)
        return distinct[assigned.images], {"label": assigned.labels}

    def assign(self, projected: Tensor, own: Tensor) -> Assignment:
        """Draw two of the images [M, E] for each text, whose own image is `own` [B]."""
        return assign_images(similar_image_weights(projected, own), own)

    def loss(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        logits = model.extra_heads[self.config.head](fused[0].states[:, 0])
        return {"assignment": F.cross_entropy(logits.float(), targets["label"])}

    def predict(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> Sequence[Any]:
        raise NotImplementedError("text assignment is trained and not measured")

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        raise NotImplementedError("text assignment is trained and not measured")
