"""From a record with a video to what one visit of it shows: a few frames that look alike, and a text. Imports torch."""

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
    """Frames of a video in their order, with its text."""

    frames: list[Pixels]
    text: str


class VideoFrames(NamedTuple):
    """Frames as evaluation sees them; `size` is (width, height) of the video in pixels."""

    frames: list[Pixels]
    size: tuple[int, int]


def video_sample(record: Record, config: StreamConfig, spec: ImageSpec, rng: Generator) -> VideoSample:
    """Frames of a video, one of each of equal segments, and one text of it (X²-VLM, second stage).

    Crop, flip and augmentation are drawn once, so that nothing moves but what moves in the video.

    Args:
        record: with `video` and `caption`; `is_continuous` where the video comes in clips.
        config: of the video-text stream.
        spec: what the encoder wants.
        rng: the sample's own generator.
    Raises: DataError for a missing field, a video that cannot be read or has no frames, clips without a caption
        each, and a text of which nothing remains.
    """
    video, caption = field(record, "video"), field(record, "caption")
    if is_clips(video):
        follow = record.get("is_continuous", False)
        if not isinstance(follow, bool):
            raise DataError(f"is_continuous is true or false, found {follow!r}", reason=Reason.FIELD_TYPE)
        video, caption = draw_clip(video, caption, follow, config.min_clip_frames, rng)
    text = clean(draw(caption, rng, config.languages), config.max_words)
    images = _images(video, lambda frames: training_frames(frames, config.frames, rng), spec)
    may_flip = not config.transform.careful_flip or not has_sides(record)
    view = draw_view(images[0].size, config.transform, rng, may_flip)
    by = reduction(view, spec) if config.transform.reduced_decoding else 1
    seed = int(rng.integers(2**63))
    return VideoSample(
        [
            render_augmented(image.load(by), view, spec, config.transform, np.random.default_rng(seed), False)
            for image in images
        ],
        text,
    )


def read_video(video: Any, wanted: int, spec: ImageSpec) -> VideoFrames:
    """The frames that evaluation sees: the first of each of equal segments, whole and unchanged.

    Args:
        video: of a record.
        wanted: frames.
        spec: what the encoder wants.
    Raises: DataError for a video that cannot be read or has no frames, and for one in clips, which is several.
    """
    if is_clips(video):
        raise DataError(
            "the video comes in clips; to be measured it must be one list of frames, or each clip a record",
            reason=Reason.FIELD_TYPE,
        )
    images = _images(video, lambda frames: evaluation_frames(frames, wanted), spec)
    size = images[0].size
    return VideoFrames([whole_image(image, spec) for image in images], size)


def _images(video: Any, choose: Callable[[int], Sequence[int]], spec: ImageSpec) -> list[ImageLike]:
    """The chosen frames, their headers read."""
    found = []
    for place, frame in enumerate(chosen_frames(video, choose)):
        try:
            found.append(ImageLike(frame, spec.channels, spec.value_range))
        except DataError as error:
            raise DataError(f"chosen frame {place}: {error}", reason=error.reason) from error
    return found
