"""The vision pass of a step: the pictures of all streams and the frames of their videos together. Imports torch.

M pictures, V videos of F frames each, which may differ, N patches, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from x2kit.model import X2VLM
from x2kit.plugin import VisionFeatures


def vision_pass(model: X2VLM, images: Tensor, videos: Sequence[int] = ()) -> VisionFeatures:
    """Encode the pictures of a step in one call of the vision encoder.

    Args:
        model: whose vision encoder is used.
        images: [M + sum of F, C, H, W] float in [0, 1], the frames behind the pictures.
        videos: the frames F of each video, in order.
    Returns: features of M pictures, then of V videos.
    """
    return join_frames(model, model.encode_images(images), videos)


def join_frames(model: X2VLM, features: VisionFeatures, videos: Sequence[int]) -> VisionFeatures:
    """The features of pictures and frames with those of each video's frames made one; arguments as of `vision_pass`.

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
