"""Layout of a step's batch: images of all streams, rows of each stream. Imports torch.

B rows of a stream, L its longest text rounded up to a multiple of 8, K most masked tokens of a row, M distinct
images of the step. Masks are bool and True is kept. Boxes are (centre x, centre y, width, height) in [0, 1].
The classes and fields are part of the format of saved steps (`x2kit debug`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor

from x2kit.errors import DataError, Reason
from x2kit.plugin.encoders import VisionFeatures
from x2kit.plugin.sources import Place
from x2kit.plugin.tasks import Texts

T = TypeVar("T")


class MaskedTexts(NamedTuple):
    """Texts of the stream after masking, for masked language modelling.

    Attributes:
        ids: [B, L] int64, after masking; L may be smaller than that of the unmasked texts.
        positions: [B, K] int64, of the tokens to predict; 0 where a row has fewer.
        labels: [B, K] int64, the original tokens; -100 where a row has fewer.
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor


class Regions(NamedTuple):
    """Boxes of the rows of a stream of regions.

    Attributes:
        bbox: [B, 4] float64, or float32 on a device without float64.
        whole: [B] bool, True for rows about the whole image, which have no box loss.
        mask: [B, N] bool, the patches of each box; if None the model computes it from its grid.
    """

    bbox: Tensor
    whole: Tensor
    mask: Tensor | None = None


class Whole(NamedTuple):
    """Position of a stream's rows over all ranks: W rows of all ranks, in the order of a single process.

    Attributes:
        numbers: [B] int64, the index among the W rows of each row of this rank.
        order: [W] int64, the index of each row in the concatenation of the rows of all ranks.
        rank: [W] int64, the rank that has the row.
        row: [W] int64, its index on that rank.
        image: [W] int64, the index of its image on that rank; -1 for texts.
        group: [W] int64, as in `PairedRows`.
        fused: the first `fused` of the W rows pass the fusion encoder.
        num_rows, num_fused: number of rows of each rank, and of those that pass the fusion encoder.
        num_images: number of images of each rank up to the last that a row of the stream has; 0 for texts.
    """

    numbers: Tensor
    order: Tensor
    rank: Tensor
    row: Tensor
    image: Tensor
    group: Tensor
    fused: int
    num_rows: tuple[int, ...]
    num_fused: tuple[int, ...]
    num_images: tuple[int, ...]


class PairedRows(NamedTuple):
    """Rows of texts with images, boxes or videos.

    Attributes:
        images: [B] int64, the index of each row's image in `Batch.images`; videos are numbered after all images.
        texts: of the rows.
        masked: the texts after masking; None if no loss of the stream needs them.
        group: [B] int64; rows of one group are positives of each other.
        regions: boxes; None for whole images.
        fused: the first `fused` rows pass the fusion encoder, and `masked` has only these; None for all.
        whole: the rows of all ranks, if several make the batch.
    """

    images: Tensor
    texts: Texts
    masked: MaskedTexts | None
    group: Tensor
    regions: Regions | None = None
    fused: int | None = None
    whole: Whole | None = None


class ParallelRows(NamedTuple):
    """Rows of parallel texts: a text and its translation; L may differ between the two.

    `group`, `fused` and `whole` are as in `PairedRows`. `taught` is the text of each row in the pivot language, in the
    tokens of a teacher; None without one.
    """

    first: Texts
    second: Texts
    masked_first: MaskedTexts | None
    group: Tensor
    fused: int | None = None
    whole: Whole | None = None
    taught: Texts | None = None


class TextRows(NamedTuple):
    """Rows of texts without images."""

    texts: Texts
    masked: MaskedTexts


class TaskRows(NamedTuple):
    """Rows of a task that computes its own losses.

    Attributes:
        images: [B, I] int64, the indices of each row's images in `Batch.images`; videos are numbered after all images.
        texts: by place in the row.
        targets: [B, ...] each, by name.
    """

    images: Tensor
    texts: tuple[Texts, ...]
    targets: dict[str, Tensor]


Rows: TypeAlias = PairedRows | ParallelRows | TextRows | TaskRows


class BrokenRecord(NamedTuple):
    """A record that was skipped.

    Attributes:
        stream: name of its stream.
        record: its id, or its position in the source if it has none.
        reason: category of the fault.
        message: place, what was found and what is allowed.
        place: file and line or offset, if the source knows it.
    """

    stream: str
    record: str
    reason: Reason
    message: str = ""
    place: Place | None = None

    @classmethod
    def from_error(
        cls, stream: str, record: str, error: DataError, place: Place | None = None
    ) -> BrokenRecord:
        """Describe the record that raised `error`; an id in the error takes precedence over `record`."""
        return cls(stream, error.record or record, error.reason, str(error), place)


class RegionImages(NamedTuple):
    """Counts of the images that a region stream drew in a step, and why some are missing from its rows.

    Attributes:
        drawn: images drawn.
        broken: images drawn by another stream whose regions are broken.
        empty: images without a text: the record has no region, or the crop keeps none.
        over_limit: images that lost all rows to `batch_size`.
        repeated: further images of a record that the step already has.
        rows_over_limit: rows lost to `batch_size`.
    """

    drawn: int
    broken: int = 0
    empty: int = 0
    over_limit: int = 0
    repeated: int = 0
    rows_over_limit: int = 0

    @property
    def held(self) -> int:
        """Number of distinct records among the step's rows."""
        return self.drawn - self.broken - self.empty - self.over_limit - self.repeated


class Batch(NamedTuple):
    """One step's data.

    Attributes:
        step: number of the step, from 0.
        images: [M, C, H, W] uint8, or float32 in [0, 1] for an encoder with a value range; images followed by the
            frames of all videos; None if no stream has any, and with `features`.
        streams: rows by stream name, in the recipe's order; a stream is absent from a step in which none of its
            losses is on, or in which its images have no region.
        records: ids of the records of the rows, without repetition, by stream.
        broken: records that were skipped.
        drawn: number of records drawn for all streams, including broken ones and those without rows.
        videos: number of frames of each video, in order; the frames of a video are consecutive.
        regions: counts of images of each region stream, over all ranks; None where nothing was drawn.
        features: cached features of the M images, in their place; None without a cache.
    """

    step: int
    images: Tensor | None
    streams: dict[str, Rows]
    records: dict[str, list[str]]
    broken: list[BrokenRecord]
    drawn: int = 0
    videos: tuple[int, ...] = ()
    regions: dict[str, RegionImages] | None = None
    features: VisionFeatures | None = None


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move all tensors of a batch to a device."""

    def move(tensor: Tensor) -> Tensor:
        if tensor.dtype == torch.float64 and device.type == "mps":  # MPS has no float64
            tensor = tensor.float()
        return tensor.to(device, non_blocking=True)

    return map_leaves(batch, Tensor, move)


def map_leaves(batch: Batch, kind: type[T], change: Callable[[T], Any]) -> Batch:
    """Replace every object of a kind among the tensors of a batch, in a fixed order."""

    def changed(value: Any) -> Any:
        if isinstance(value, kind):
            return change(value)
        if isinstance(value, dict):
            return {name: changed(inner) for name, inner in value.items()}
        if isinstance(value, tuple):
            inner = map(changed, value)
            return type(value)(*inner) if hasattr(value, "_fields") else tuple(inner)
        return value

    return batch._replace(
        images=changed(batch.images), streams=changed(batch.streams), features=changed(batch.features)
    )
