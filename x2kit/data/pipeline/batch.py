"""What a training step is given: the images of all streams once, the rows of each stream. Imports torch.

B rows of a stream, L its longest text rounded up to a multiple of 8, K most masked tokens of a row, M
distinct images of the step. Masks are bool and True is kept. Boxes are (centre x, centre y, width, height)
in [0, 1].
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from x2kit.errors import Reason
from x2kit.plugin.sources import Place


class Texts(NamedTuple):
    """Padded texts: ids [B, L] int64, mask [B, L] bool."""

    ids: Tensor
    mask: Tensor


class MaskedTexts(NamedTuple):
    """The same texts with tokens masked, for masked language modelling.

    Attributes:
        ids: [B, L] int64, after masking; L may be less than that of the plain texts, whose padding is at the end.
        positions: [B, K] int64, of the tokens to predict; 0 where a row has fewer.
        labels: [B, K] int64, the tokens that stood there; -100 where a row has fewer.
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor


class Regions(NamedTuple):
    """The part of the image that each row is about.

    Attributes:
        bbox: [B, 4] float64, or float32 on a device without float64.
        whole: [B] bool, True where the row is about the whole image; such rows have no box loss.
        mask: [B, N] bool, the patches of each box; None leaves it to the model, which knows the grid.
    """

    bbox: Tensor
    whole: Tensor
    mask: Tensor | None = None


class Whole(NamedTuple):
    """Where the rows of a stream are when several processes make them; W rows of all, in the order of one process.

    Attributes:
        numbers: [B] int64, which of the W rows those of this process are.
        order: [W] int64, the place of each row where those of all processes stand one process behind the other.
        rank: [W] int64, the process that has the row.
        row: [W] int64, its number there.
        image: [W] int64, the number there of its image; -1 for texts.
        group: [W] int64, as in `PairedRows`.
        fused: how many of the W rows go through the fusion encoder, the first.
    """

    numbers: Tensor
    order: Tensor
    rank: Tensor
    row: Tensor
    image: Tensor
    group: Tensor
    fused: int


class PairedRows(NamedTuple):
    """Rows of an image-text, region-text or video-text stream.

    Attributes:
        images: [B] int64, the image of each row in `Batch.images`; videos are counted behind all images.
        texts: of the rows.
        masked: the same texts masked; None if no loss of the stream needs them.
        group: [B] int64; rows of one group are right answers to each other.
        regions: None for whole images.
        fused: the first so many rows go through the fusion encoder, and `masked` has so many; None for all.
        whole: the rows of all processes, where several make the batch.
    """

    images: Tensor
    texts: Texts
    masked: MaskedTexts | None
    group: Tensor
    regions: Regions | None = None
    fused: int | None = None
    whole: Whole | None = None


class ParallelRows(NamedTuple):
    """Rows of a parallel-text stream: two texts of one meaning; L may differ between the sides.

    `group`, `fused` and `whole` are as in `PairedRows`.
    """

    first: Texts
    second: Texts
    masked_first: MaskedTexts | None
    group: Tensor
    fused: int | None = None
    whole: Whole | None = None


class TextRows(NamedTuple):
    """Rows of a text stream: texts alone."""

    texts: Texts
    masked: MaskedTexts


Rows: TypeAlias = PairedRows | ParallelRows | TextRows


class BrokenRecord(NamedTuple):
    """A record that was skipped.

    Attributes:
        stream: its stream.
        record: its id, or its position in the source where it has none.
        reason: why.
        message: why, with where and what was found.
        place: file and line or offset, where the source can say.
    """

    stream: str
    record: str
    reason: Reason
    message: str = ""
    place: Place | None = None


class RegionImages(NamedTuple):
    """Images that a region stream drew in a step, and those that it holds no row or no further image of.

    Attributes:
        drawn: images drawn.
        broken: images that another stream drew, and whose regions are broken here.
        empty: images without a text: the record has no region, or the crop leaves none.
        over_limit: images that lost all rows to `batch_size`.
        repeated: images of a record that the step holds already.
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
        """Distinct records that the step's rows are of."""
        return self.drawn - self.broken - self.empty - self.over_limit - self.repeated


class Batch(NamedTuple):
    """One step's data.

    Attributes:
        step: number of the step, from 0.
        images: [M, C, H, W] float32 in [0, 1], images and behind them the frames of all videos; None if no stream
            has any.
        streams: rows by stream name, in the recipe's order; a stream is absent in a step in which none of its
            losses is on, or in which its images have no region.
        records: ids of the records behind the rows, each once, by stream.
        broken: records that were skipped on the way.
        drawn: how many records were drawn for all streams, broken ones and those without rows included.
        videos: the frames of each video, in order; its frames are next to each other.
        regions: images of each region stream, over all processes; None where nothing was drawn.
    """

    step: int
    images: Tensor | None
    streams: dict[str, Rows]
    records: dict[str, list[str]]
    broken: list[BrokenRecord]
    drawn: int = 0
    videos: tuple[int, ...] = ()
    regions: dict[str, RegionImages] | None = None


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with all its tensors on a device."""

    def move(value: Any) -> Any:
        if isinstance(value, Tensor):
            if value.dtype == torch.float64 and device.type == "mps":  # which has no float64
                value = value.float()
            return value.to(device, non_blocking=True)
        return type(value)(*map(move, value)) if isinstance(value, tuple) else value

    streams = {name: move(rows) for name, rows in batch.streams.items()}
    return batch._replace(images=move(batch.images), streams=streams)
