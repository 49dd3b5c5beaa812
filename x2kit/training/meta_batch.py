"""A step's global batch with the shapes that a recipe gives it and no content. Imports torch."""

from __future__ import annotations

import torch
from torch import Tensor

from x2kit.data.batch import Batch, MaskedTexts, PairedRows, ParallelRows, Regions, Rows, TextRows, Texts
from x2kit.data.config import DataConfig, StreamConfig
from x2kit.plugin import ImageSpec
from x2kit.training.step import Negatives

META = torch.device("meta")


def pictures_of(stream: StreamConfig) -> int:
    """Pictures and frames that a step encodes for a stream; those of another stream are counted there."""
    if stream.images_from is not None or stream.kind not in ("image-text", "region-text", "video-text"):
        return 0
    return stream.records_a_step * (stream.frames if stream.kind == "video-text" else 1)


def tokens_of(stream: StreamConfig) -> int:
    """Tokens of the texts of a step, each as long as it may be."""
    return stream.batch_size * stream.max_tokens * (2 if stream.kind == "parallel-text" else 1)


def meta_batch(image: ImageSpec, data: DataConfig) -> Batch:
    """The batch of a step: every row there, every text of `max_tokens` tokens."""
    streams = data.streams
    pictures = sum(map(pictures_of, streams.values()))
    videos = [stream for stream in streams.values() if stream.kind == "video-text"]
    images = torch.empty(pictures, image.channels, image.size, image.size, device=META) if pictures else None
    return Batch(
        0,
        images,
        {name: _rows(stream) for name, stream in streams.items()},
        {},
        [],
        videos=tuple(stream.frames for stream in videos for _ in range(stream.records_a_step)),
    )


def meta_negatives(batch: Batch) -> dict[str, Negatives]:
    """Hard negatives of the rows that are fused, of each stream that has pairs."""
    fused = {
        name: len(rows.group[: rows.fused])
        for name, rows in batch.streams.items()
        if not isinstance(rows, TextRows)
    }
    return {name: Negatives(_numbers(rows), _numbers(rows)) for name, rows in fused.items()}


def _rows(stream: StreamConfig) -> Rows:
    count, group = stream.batch_size, _numbers(stream.batch_size)
    fused = count if stream.fusion_rows is None else min(count, stream.fusion_rows)
    masking = stream.masking
    masks = min(masking.max_masks, max(1, round(masking.mask_prob * stream.max_tokens)))
    masked = MaskedTexts(_numbers(fused, stream.max_tokens), _numbers(fused, masks), _numbers(fused, masks))
    if stream.kind == "text":
        return TextRows(_texts(stream), masked)
    if stream.kind == "parallel-text":
        return ParallelRows(_texts(stream), _texts(stream), masked, group, stream.fusion_rows)
    regions = None
    if stream.kind == "region-text":
        whole = torch.empty(count, dtype=torch.bool, device=META)
        regions = Regions(torch.empty(count, 4, device=META), whole)
    return PairedRows(_numbers(count), _texts(stream), masked, group, regions, stream.fusion_rows)


def _texts(stream: StreamConfig) -> Texts:
    ids = _numbers(stream.batch_size, stream.max_tokens)
    return Texts(ids, torch.empty(ids.shape, dtype=torch.bool, device=META))


def _numbers(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.int64, device=META)
