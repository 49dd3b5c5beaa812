"""Which frames of a clip a model sees (X²-VLM, section 3.3; X2-VLM repository, dataset/utils.py). Imports no torch.

A clip of more frames than wanted is cut into as many segments as frames are wanted, of lengths that differ by one
at most, and each segment gives one frame. A clip of fewer repeats frames.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from x2kit.errors import DataError, Reason


def evaluation_frames(frames: int, wanted: int) -> list[int]:
    """The first frame of each segment, the longer segments first; the same at every call.

    Args:
        frames: of the clip.
        wanted: at least 1.
    Returns: `wanted` numbers of frames, in order; of a short clip each as often as the others, or once more.
    Raises: DataError if the clip has no frames.
    """
    if _is_short(frames, wanted):
        return sorted(place % frames for place in range(wanted))
    return _starts(_even_lengths(frames, wanted))


def training_frames(frames: int, wanted: int, random: Generator) -> list[int]:
    """A frame of each segment by chance, where chance also says which segments are the longer ones.

    Args:
        frames: of the clip.
        wanted: at least 1.
        random: of the sample.
    Returns: `wanted` numbers of frames, in order; of a short clip every frame, and some again by chance.
    Raises: DataError if the clip has no frames.
    """
    if _is_short(frames, wanted):
        again = random.integers(frames, size=wanted - frames)
        return sorted([*range(frames), *again.tolist()])
    lengths = random.permutation(_even_lengths(frames, wanted))
    found: list[int] = (np.array(_starts(lengths.tolist())) + random.integers(lengths)).tolist()
    return found


def _is_short(frames: int, wanted: int) -> bool:
    if frames < 1:
        raise DataError(
            f"a video needs at least 1 frame, found {frames}; leave the record out", reason=Reason.VIDEO_EMPTY
        )
    return frames < wanted


def _even_lengths(frames: int, segments: int) -> list[int]:
    """Lengths of segments that cover a clip, the longer ones first."""
    length, longer = divmod(frames, segments)
    return [length + 1] * longer + [length] * (segments - longer)


def _starts(lengths: list[int]) -> list[int]:
    return [sum(lengths[:number]) for number in range(len(lengths))]
