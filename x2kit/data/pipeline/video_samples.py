"""Draw frames and a text from a record with a video. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator

from x2kit.data.config import StreamConfig
from x2kit.data.media.clips import draw_clip
from x2kit.data.media.frames import evaluation_frames, training_frames
from x2kit.data.media.images import ImageLike
from x2kit.data.media.videos import chosen_frames, is_clips
from x2kit.data.pipeline.samples import field, has_sides
from x2kit.data.transforms.text import clean, draw
from x2kit.data.transforms.view import Pixels, draw_view, reduction, render_augmented, whole_image
from x2kit.errors import DataError, Reason
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Record


class VideoSample(NamedTuple):
    """Frames of a video in temporal order, with a text."""

    frames: list[Pixels]
    text: str


class VideoFrames(NamedTuple):
    """Frames for evaluation; `size` is (width, height) of the video in pixels."""

    frames: list[Pixels]
    size: tuple[int, int]


def video_sample(record: Record, config: StreamConfig, spec: ImageSpec, rng: Generator) -> VideoSample:
    """Draw a frame from each of equal segments of a video, and one text (X²-VLM, second stage).

    Crop, flip and augmentation are drawn once for all frames.

    Args:
        record: with `video` and `caption`; with `is_continuous` if the video is a list of clips.
        config: of the video-text stream.
        spec: input of the encoder.
        rng: the sample's generator.
    Raises: DataError for a missing field, an unreadable video or one without frames, clips without a caption each,
        and a text that is empty after cleaning.
    """
    video, caption = field(record, "video"), field(record, "caption")
    if is_clips(video):
        continuous = record.get("is_continuous", False)
        if not isinstance(continuous, bool):
            raise DataError(
                f"is_continuous must be true or false, found {continuous!r}", reason=Reason.FIELD_TYPE
            )
        video, caption = draw_clip(video, caption, continuous, config.min_clip_frames, rng)
    text = clean(draw(caption, rng, config.languages), config.max_words)
    may_flip = not config.transform.careful_flip or not has_sides(record)
    return VideoSample(draw_frames(video, config, spec, rng, may_flip), text)


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
        render_augmented(image.load(by), view, spec, config.transform, np.random.default_rng(seed), False)
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
