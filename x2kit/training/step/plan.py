"""Hold the state of a stream between encoders, fusion pass and losses. Imports torch.

B rows of a stream, N patches, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.data.config import LossName
from x2kit.data.pipeline.batch import MaskedTexts, PairedRows, ParallelRows, Rows, TaskRows, TextRows, Whole
from x2kit.errors import ShapeError
from x2kit.model import X2VLM
from x2kit.objectives.masked_language import IGNORED
from x2kit.plugin import VisionFeatures, gather_rows
from x2kit.plugin.tasks import Task
from x2kit.training.step.encoder_passes import StreamTexts
from x2kit.training.step.tasks import task_counts

Active = Mapping[str, Sequence[LossName]]
"""Losses that are on, by stream."""
Losses = dict[str, dict[str, Tensor]]
"""Scalars, by stream and loss or objective."""

CONTRASTIVE: tuple[LossName, ...] = ("itc", "ttc")
MATCHING: tuple[LossName, ...] = ("itm", "ttm")
MASKED: tuple[LossName, ...] = ("mlm", "tlm")
BOXES: tuple[LossName, ...] = ("bbox", "giou")


class Negatives(NamedTuple):
    """Hard negatives of a stream's fused rows.

    Attributes:
        image: [B] int64, the row whose image (or first text) is the negative of each text.
        text: [B] int64, the row whose text is the negative of each image.
        valid: [3B] bool, which matching rows count: positives, image negatives, text negatives; None for all.
        of_ranks: the image and text negatives of the fused rows of all ranks, [F] each, as numbers in the whole batch;
            None if they are drawn from the rows of one rank. Then `image` and `text` are such numbers as well, until
            the rows are exchanged.
    """

    image: Tensor
    text: Tensor
    valid: Tensor | None = None
    of_ranks: tuple[Tensor, Tensor] | None = None


class ImageContext(NamedTuple):
    """Images or regions that paired rows attend to.

    Attributes:
        summary: [B, D], of the image or region.
        mask: [B, N] bool, patches of the region; None for all.
        image_summary: [B, D], of the whole image.
    """

    summary: Tensor
    mask: Tensor | None
    image_summary: Tensor


class StreamPlan(NamedTuple):
    """A stream after the encoders and before the fusion pass.

    Attributes:
        rows: of the stream.
        on: losses that are on.
        texts: encoded.
        image: context of the rows; None for streams without images.
        negatives: None if no matching loss is on.
        task: of the stream, if it computes its own losses; None for pretraining.
    """

    rows: Rows
    on: Sequence[LossName]
    texts: StreamTexts
    image: ImageContext | None = None
    negatives: Negatives | None = None
    task: Task | None = None

    @property
    def masked(self) -> MaskedTexts | None:
        """The masked texts of the rows."""
        if isinstance(self.rows, TaskRows):
            return None
        return self.rows.masked_first if isinstance(self.rows, ParallelRows) else self.rows.masked

    @property
    def whole(self) -> Whole | None:
        """The rows of all ranks; None in a run of one, and for rows that are not compared."""
        return None if isinstance(self.rows, TextRows | TaskRows) else self.rows.whole

    @property
    def fused(self) -> int:
        """Number of rows, from the first on, that enter the fusion pass."""
        if isinstance(self.rows, TextRows):
            return len(self.rows.masked.ids)
        if isinstance(self.rows, TaskRows):
            return len(self.rows.images)
        return len(self.rows.group[: self.rows.fused])

    def counts(self, loss: str) -> Tensor | None:
        """Count per fused row the pairs, tokens or boxes that a loss averages over.

        Returns: [fused]; None for contrastive losses and objectives.
        """
        rows = self.rows
        if isinstance(rows, TaskRows):
            return None if self.task is None else task_counts(self.task, rows, loss)
        if loss in MATCHING and self.negatives is not None:
            valid = self.negatives.valid
            return torch.ones_like(self.negatives.text) if valid is None else valid.view(3, -1).sum(0)
        if loss in MASKED and self.masked is not None:
            return (self.masked.labels != IGNORED).sum(1)
        if loss in BOXES and isinstance(rows, PairedRows) and rows.regions is not None:
            return ~rows.regions.whole[: rows.fused]
        return None


def needs_masked(streams: Mapping[str, Rows], active: Active) -> dict[str, bool]:
    """Tell for each stream whether a loss needs its masked texts."""
    return {name: any(loss in MASKED for loss in active.get(name, ())) for name in streams}


def image_context(
    model: X2VLM, name: str, rows: Rows, features: VisionFeatures | None
) -> ImageContext | None:
    """Build the image context of a stream; None for rows of texts.

    Raises: ShapeError for rows of images in a batch without images.
    """
    if not isinstance(rows, PairedRows):
        return None
    if features is None:
        raise ShapeError(f"stream {name} has rows of images, but the batch has no image")
    image_summary = gather_rows(features.summary, rows.images)
    if rows.regions is None:
        return ImageContext(image_summary, None, image_summary)
    summary, mask = model.encode_regions(features, rows.images, rows.regions.bbox, rows.regions.mask)
    return ImageContext(summary, mask, image_summary)
