"""Encode the images, frames and texts of all streams together. Imports torch.

M images, V videos of F frames each (F may differ), B rows of a stream, L text tokens, N patches, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.data.pipeline.batch import ParallelRows, Rows, TaskRows, TextRows
from x2kit.model import X2VLM
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
    model: X2VLM, streams: Mapping[str, Rows], masked: Mapping[str, bool]
) -> dict[str, StreamTexts]:
    """Encode the texts of all streams, with one encoder call per padded length.

    Args:
        model: provides the text encoder.
        streams: rows by stream.
        masked: whether a loss of the stream needs its masked texts.
    """
    pieces = text_pieces(streams, masked)
    return by_stream(streams, pieces, encode_pieces(model, pieces))


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


def encode_pieces(model: X2VLM, pieces: Mapping[Key, Texts]) -> dict[Key, Tensor]:
    """Encode each text to [B, L, D], with one encoder call per padded length."""
    tokens: dict[Key, Tensor] = {}
    for length, in_part in sorted({_reading(texts) for texts in pieces.values()}):
        keys = [key for key, texts in pieces.items() if _reading(texts) == (length, in_part)]
        positions = [found for key in keys if (found := pieces[key].positions) is not None]
        together = model.encode_texts(
            torch.cat([pieces[key].ids for key in keys]),
            torch.cat([pieces[key].mask for key in keys]),
            torch.cat(positions) if in_part else None,
        )
        tokens.update(zip(keys, torch.split(together, [len(pieces[key].ids) for key in keys]), strict=True))
    return tokens


def _reading(texts: Texts) -> tuple[int, bool]:
    """Return what must be equal in texts that share a call: the padded length, and whether they are read in part."""
    return texts.ids.shape[1], texts.positions is not None


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
