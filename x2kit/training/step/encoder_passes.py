"""The vision pass of a step: the images of all streams and the frames of their videos together. Imports torch.

M images, V videos of F frames each, which may differ, N patches, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.data.pipeline.batch import ParallelRows, Rows, TextRows, Texts
from x2kit.model import X2VLM
from x2kit.plugin import VisionFeatures


def vision_pass(model: X2VLM, images: Tensor, videos: Sequence[int] = ()) -> VisionFeatures:
    """Encode the images of a step in one call of the vision encoder.

    Args:
        model: whose vision encoder is used.
        images: [M + sum of F, C, H, W] float in [0, 1], the frames behind the images.
        videos: the frames F of each video, in order.
    Returns: features of M images, then of V videos.
    """
    return join_frames(model, model.encode_images(images), videos)


def join_frames(model: X2VLM, features: VisionFeatures, videos: Sequence[int]) -> VisionFeatures:
    """The features of images and frames with those of each video's frames made one; arguments as of `vision_pass`.

    Raises: HeadError if the model has no frame positions, ShapeError for more frames than it has.
    """
    if not videos:
        return features
    start = len(features.summary) - sum(videos)
    parts = [_slice(features, 0, start)]
    for frames, alike in groupby(videos):
        end = start + frames * len(list(alike))
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
"""Stream, and which of its texts: "0" and "1" for the sides, "masked"."""


class Encoded(NamedTuple):
    """A stream's texts after the pass; [B, L, D] each.

    Attributes:
        clean: the texts, for parallel texts first and second.
        masked: None if no loss needs them.
        masked_mask: [B, L] bool, of the masked texts.
    """

    clean: Sequence[Tensor]
    masked: Tensor | None
    masked_mask: Tensor | None


def text_pass(model: X2VLM, streams: Mapping[str, Rows], masked: Mapping[str, bool]) -> dict[str, Encoded]:
    """Encode the texts of all streams, in one call of the text encoder for each padded length.

    Args:
        model: whose text encoder is used.
        streams: rows by stream.
        masked: whether a loss of the stream needs its masked texts.
    """
    pieces = text_pieces(streams, masked)
    return by_stream(streams, pieces, encode_pieces(model, pieces))


def text_pieces(streams: Mapping[str, Rows], masked: Mapping[str, bool]) -> dict[Key, Texts]:
    """What there is to encode; arguments as of `text_pass`."""
    pieces: dict[Key, Texts] = {}
    for name, rows in streams.items():
        for side, texts in enumerate(_clean(rows)):
            pieces[name, str(side)] = texts
        hidden = _masked(rows) if masked[name] else None
        if hidden is not None:
            pieces[name, "masked"] = hidden
    return pieces


def encode_pieces(model: X2VLM, pieces: Mapping[Key, Texts]) -> dict[Key, Tensor]:
    """Tokens [B, L, D] of each piece, in one call for each padded length."""
    tokens: dict[Key, Tensor] = {}
    for length in sorted({texts.ids.shape[1] for texts in pieces.values()}):
        keys = [key for key, texts in pieces.items() if texts.ids.shape[1] == length]
        together = model.encode_texts(
            torch.cat([pieces[key].ids for key in keys]), torch.cat([pieces[key].mask for key in keys])
        )
        tokens.update(zip(keys, torch.split(together, [len(pieces[key].ids) for key in keys]), strict=True))
    return tokens


def by_stream(
    streams: Mapping[str, Rows], pieces: Mapping[Key, Texts], tokens: Mapping[Key, Tensor]
) -> dict[str, Encoded]:
    """The tokens of the pieces where the step looks for them."""
    return {
        name: Encoded(
            [tokens[name, str(side)] for side in range(len(_clean(rows)))],
            tokens.get((name, "masked")),
            pieces[name, "masked"].mask if (name, "masked") in pieces else None,
        )
        for name, rows in streams.items()
    }


def _clean(rows: Rows) -> list[Texts]:
    if isinstance(rows, TextRows):
        return []
    return [rows.first, rows.second] if isinstance(rows, ParallelRows) else [rows.texts]


def _masked(rows: Rows) -> Texts | None:
    """The masked texts: the first of the plain ones, perhaps with less padding at the end."""
    masked, plain = (
        (rows.masked_first, rows.first) if isinstance(rows, ParallelRows) else (rows.masked, rows.texts)
    )
    if masked is None:
        return None
    count, length = masked.ids.shape
    return Texts(masked.ids, plain.mask[:count, :length])
