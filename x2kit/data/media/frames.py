"""Sample frames of a clip (X²-VLM, section 3.3; X2-VLM repository, dataset/utils.py). Imports no torch.

A long clip is divided into one segment a frame, of lengths that differ by at most one; a short clip repeats frames.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from x2kit.errors import DataError, Reason


def evaluation_frames(frames: int, wanted: int) -> list[int]:
    """Select the first frame of each segment, longer segments first.

    Args:
        frames: number of frames in the clip.
        wanted: number of frames to select, at least 1.
    Returns: `wanted` frame numbers in order; those of a short clip repeat evenly.
    Raises: DataError if the clip has no frames.
    """
    if _is_short(frames, wanted):
        return sorted(place % frames for place in range(wanted))
    return _starts(_even_lengths(frames, wanted))


def training_frames(frames: int, wanted: int, random: Generator) -> list[int]:
    """Draw a random frame of each segment; the order of longer segments is random, too.

    Args:
        frames: number of frames in the clip.
        wanted: number of frames to select, at least 1.
        random: generator of the sample.
    Returns: `wanted` frame numbers in order; every frame of a short clip, and random repetitions.
    Raises: DataError if the clip has no frames.
    """
    if _is_short(frames, wanted):
        repeated = random.integers(frames, size=wanted - frames)
        return sorted([*range(frames), *repeated.tolist()])
    lengths = random.permutation(_even_lengths(frames, wanted))
    chosen: list[int] = (np.array(_starts(lengths.tolist())) + random.integers(lengths)).tolist()
    return chosen


def _is_short(frames: int, wanted: int) -> bool:
    if frames < 1:
        raise DataError(
            f"a video needs at least 1 frame, found {frames}; remove the record", reason=Reason.VIDEO_EMPTY
        )
    return frames < wanted


def _even_lengths(frames: int, segments: int) -> list[int]:
    """Divide a clip into segments, longer ones first, and return their lengths."""
    length, longer = divmod(frames, segments)
    return [length + 1] * longer + [length] * (segments - longer)


def _starts(lengths: list[int]) -> list[int]:
    return [sum(lengths[:number]) for number in range(len(lengths))]
