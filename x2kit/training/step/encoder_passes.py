"""Encode the images, frames and texts of all streams together. Imports torch.

M images, V videos of F frames each (F may differ), B rows of a stream, L text tokens, N patches, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from x2kit.data.pipeline.batch import ParallelRows, Rows, TaskRows, TextRows
from x2kit.model import X2VLM
from x2kit.model.packing import PackedRows, bucket_rows, called_rows, in_order, row_lengths
from x2kit.plugin import VisionFeatures
from x2kit.plugin.tasks import Texts


def vision_pass(model: X2VLM, images: Tensor, videos: Sequence[int] = ()) -> VisionFeatures:
    """Encode the images of a step in one call of the vision encoder.

    Args:
        model: provides the vision encoder and the pooling of frames.
        images: [M + sum of F, C, H, W] uint8 or float in [0, 1], the frames behind the images.
        videos: the number of frames F of each video, in order.
    Returns: features of M images, then of V videos.
    Raises: HeadError if the model has no frame positions, ShapeError for more frames than it has.
    """
    features = model.encode_images(images)
    if not videos:
        return features
    start = len(features.summary) - sum(videos)
    parts = [_slice(features, 0, start)]
    for frames, group in groupby(videos):
        end = start + frames * len(list(group))
        parts.append(model.pool_frames(_slice(features, start, end), frames))
        start = end
    return VisionFeatures(
        torch.cat([part.summary for part in parts]),
        torch.cat([part.patches for part in parts]),
        features.grid,
    )


def _slice(features: VisionFeatures, start: int, end: int) -> VisionFeatures:
    return VisionFeatures(features.summary[start:end], features.patches[start:end], features.grid)


Key = tuple[str, str]
"""Stream, and one of its texts: "masked", or its place in the row ("0" and "1" for the sides of parallel text)."""


class StreamTexts(NamedTuple):
    """Encoded texts of a stream.

    Attributes:
        clean: [B, L, D] each, by place in the row; first and second for parallel texts, none for texts alone.
        masked: [B, L, D]; None if no loss needs them.
        masked_mask: [B, L] bool, of the masked texts.
    """

    clean: Sequence[Tensor]
    masked: Tensor | None
    masked_mask: Tensor | None


def text_pass(
    model: X2VLM, streams: Mapping[str, Rows], masked: Mapping[str, bool], equal_calls: bool = False
) -> dict[str, StreamTexts]:
    """Encode the texts of all streams; see `encode_pieces`.

    Args:
        model: provides the text encoder.
        streams: rows by stream.
        masked: whether a loss of the stream needs its masked texts.
        equal_calls: see `FusionPass`.
    """
    pieces = text_pieces(streams, masked)
    return by_stream(streams, pieces, encode_pieces(model, pieces, equal_calls))


def text_pieces(streams: Mapping[str, Rows], masked: Mapping[str, bool]) -> dict[Key, Texts]:
    """List the texts to encode; arguments as in `text_pass`."""
    pieces: dict[Key, Texts] = {}
    for name, rows in streams.items():
        # The masked texts of a text stream are its only input.
        for side, texts in enumerate([] if isinstance(rows, TextRows) else clean_texts(rows)):
            pieces[name, str(side)] = texts
        masked_texts = _masked(rows) if masked[name] else None
        if masked_texts is not None:
            pieces[name, "masked"] = masked_texts
    return pieces


def encode_pieces(model: X2VLM, pieces: Mapping[Key, Texts], equal_calls: bool = False) -> dict[Key, Tensor]:
    """Encode each text to [B, L, D], without padding as far as the host knows the lengths.

    An encoder that declares `packs` reads several texts in a row, all in one call; any other reads texts of similar
    length in one call.

    Args:
        model: provides the text encoder.
        pieces: the texts.
        equal_calls: see `FusionPass`.
    """
    tokens: dict[Key, Tensor] = {}
    for in_part in (False, True):
        chosen = {key: texts for key, texts in pieces.items() if (texts.positions is not None) == in_part}
        if model.text.packs and any(len(texts.ids) for texts in chosen.values()):
            tokens |= _encode_packed(model, chosen)
        elif chosen:
            tokens |= _encode_buckets(model, chosen, equal_calls)
    return tokens


def _encode_packed(model: X2VLM, pieces: Mapping[Key, Texts]) -> dict[Key, Tensor]:
    """Encode texts in rows of several."""
    lengths = np.concatenate([row_lengths(texts.mask, texts.lengths) for texts in pieces.values()])
    sizes = [len(texts.ids) for texts in pieces.values()]
    widths = np.repeat([texts.ids.shape[1] for texts in pieces.values()], sizes)
    packed = PackedRows.of(lengths, widths, model.device, model.text.max_length)
    ids = packed.gather(torch.cat([texts.ids.flatten() for texts in pieces.values()]))
    positions = packed.position
    if given := [texts.positions.flatten() for texts in pieces.values() if texts.positions is not None]:
        positions = packed.gather(torch.cat(given))
    padding = packed.text < 0
    encoded = model.encode_texts(
        ids.masked_fill(padding, model.tokenizer.special.pad),
        packed.sees([texts.mask for texts in pieces.values()]),
        positions.masked_fill(padding, 0),
    ).flatten(0, 1)
    starts = [0, *accumulate(sizes)]
    return {
        key: packed.scatter(encoded, slice(start, start + len(texts.ids)), texts.ids.shape[1])
        for (key, texts), start in zip(pieces.items(), starts, strict=False)
    }


def _encode_buckets(model: X2VLM, pieces: Mapping[Key, Texts], equal_calls: bool) -> dict[Key, Tensor]:
    """Encode texts in one call per bucket of rows of similar length."""
    groups: dict[int, list[Key]] = {}
    for key, texts in pieces.items():
        # Masks per token are not padded further: a token that sees nothing has no finite result.
        groups.setdefault(0 if texts.positions is None else texts.ids.shape[1], []).append(key)
    tokens: dict[Key, Tensor] = {}
    for keys in groups.values():
        together = _bucketed(model, [pieces[key] for key in keys], equal_calls)
        parts = torch.split(together, [len(pieces[key].ids) for key in keys])
        tokens |= {key: part[:, : pieces[key].ids.shape[1]] for key, part in zip(keys, parts, strict=True)}
    return tokens


def _bucketed(model: X2VLM, pieces: Sequence[Texts], equal_calls: bool) -> Tensor:
    width = max(texts.ids.shape[1] for texts in pieces)
    pad = model.tokenizer.special.pad
    ids = torch.cat([F.pad(texts.ids, (0, width - texts.ids.shape[1]), value=pad) for texts in pieces])
    mask = torch.cat([F.pad(texts.mask, (0, width - texts.mask.shape[-1])) for texts in pieces])
    given = [texts.positions for texts in pieces if texts.positions is not None]
    positions = torch.cat(given) if given else None
    lengths = np.concatenate([row_lengths(texts.mask, texts.lengths) for texts in pieces])
    buckets = bucket_rows(lengths, width, ids.device, equal_calls)
    if not len(lengths) or (len(buckets) == 1 and buckets[0][0] == width):
        return model.encode_texts(ids, mask, positions)
    encoded = []
    for edge, rows in buckets:
        index = called_rows(rows, ids.device)
        seen = mask.index_select(0, index)[:, :edge]
        tokens = model.encode_texts(
            ids.index_select(0, index)[:, :edge],
            seen if seen.ndim == 2 else seen[:, :, :edge],
            None if positions is None else positions.index_select(0, index)[:, :edge],
        )
        encoded.append(F.pad(tokens[: len(rows)], (0, 0, 0, width - edge)))
    return torch.cat(encoded).index_select(0, in_order(buckets, ids.device))


def by_stream(
    streams: Iterable[str], pieces: Mapping[Key, Texts], tokens: Mapping[Key, Tensor]
) -> dict[str, StreamTexts]:
    """Group encoded texts by stream."""
    return {
        name: StreamTexts(
            [tokens[key] for key in pieces if key[0] == name and key[1] != "masked"],
            tokens.get((name, "masked")),
            pieces[name, "masked"].mask if (name, "masked") in pieces else None,
        )
        for name in streams
    }


def clean_texts(rows: Rows) -> list[Texts]:
    """Return the unmasked texts of a stream by place in the row: two for parallel texts, else usually one."""
    if isinstance(rows, TaskRows):
        return list(rows.texts)
    return [rows.first, rows.second] if isinstance(rows, ParallelRows) else [rows.texts]


def _masked(rows: Rows) -> Texts | None:
    """Return the masked texts: the first rows of the plain ones, perhaps with less padding."""
    if isinstance(rows, TaskRows):
        return None
    masked, plain = (
        (rows.masked_first, rows.first) if isinstance(rows, ParallelRows) else (rows.masked, rows.texts)
    )
    if masked is None:
        return None
    count, length = masked.ids.shape
    lengths = None if plain.lengths is None else plain.lengths[:count]
    return Texts(masked.ids, plain.mask[:count, :length], lengths=lengths)
