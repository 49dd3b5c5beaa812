"""Draw the frames of a video, in training and in evaluation. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from x2kit.data.config import StreamConfig
from x2kit.data.media.frames import evaluation_frames, training_frames
from x2kit.data.media.images import ImageLike
from x2kit.data.media.videos import chosen_frames, is_clips
from x2kit.data.transforms.view import Pixels, decode, draw_view, reduction, render_augmented, whole_image
from x2kit.errors import DataError, Reason
from x2kit.plugin.facts import ImageSpec


class VideoFrames(NamedTuple):
    """Frames for evaluation; `size` is (width, height) of the video in pixels."""

    frames: list[Pixels]
    size: tuple[int, int]


def draw_frames(
    video: Any, config: StreamConfig, spec: ImageSpec, rng: Generator, may_flip: bool
) -> list[Pixels]:
    """Draw a frame from each of equal segments of a video; crop, flip and augmentation are the same for all.

    Raises: DataError for an unreadable video or one without frames.
    """
    images = _images(video, lambda frames: training_frames(frames, config.frames, rng), spec)
    view = draw_view(images[0].size, config.transform, rng, may_flip)
    by = reduction(view, spec) if config.transform.reduced_decoding else 1
    seed = int(rng.integers(2**63))
    return [
        render_augmented(
            decode(image, spec, by), view, spec, config.transform, np.random.default_rng(seed), False
        )
        for image in images
    ]


def read_video(video: Any, num_frames: int, spec: ImageSpec) -> VideoFrames:
    """Read the frames for evaluation: the first of each of equal segments, resized only.

    Args:
        video: as in the record.
        num_frames: number of frames.
        spec: input of the encoder.
    Raises: DataError for an unreadable video, one without frames, and one in clips.
    """
    if is_clips(video):
        raise DataError(
            "evaluation takes one list of frames, found a list of clips; make each clip a record",
            reason=Reason.FIELD_TYPE,
        )
    images = _images(video, lambda frames: evaluation_frames(frames, num_frames), spec)
    size = images[0].size
    return VideoFrames([whole_image(image, spec) for image in images], size)


def _images(video: Any, choose: Callable[[int], Sequence[int]], spec: ImageSpec) -> list[ImageLike]:
    """Open the chosen frames and read their headers."""
    images = []
    for number, frame in enumerate(chosen_frames(video, choose)):
        try:
            images.append(ImageLike(frame, spec.channels, spec.value_range))
        except DataError as error:
            raise DataError(f"chosen frame {number}: {error}", reason=error.reason) from error
    return images
