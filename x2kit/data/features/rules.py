"""Say which images of a recipe are cached as features, and why others cannot be. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from x2kit.data.config import DataConfig, StreamConfig, TransformConfig

OFF = "data.feature_cache: null computes features in every step"


class CachedImages(NamedTuple):
    """The images that are cached of each record of a stream.

    Attributes:
        images: of a record.
        views: views of an image, of which each epoch takes the next.
        keep_shape: views are augmented in colour only, since boxes of the images are used.
    """

    images: int
    views: int
    keep_shape: bool


def cached_images(data: DataConfig) -> dict[str, CachedImages]:
    """Return what is cached, by stream with images of its own; nothing without `data.feature_cache`."""
    if data.feature_cache is None:
        return {}
    shared = {stream.image_stream for stream in data.streams.values()}
    return {
        name: CachedImages(
            1 if stream.layout is not None else stream.task.drawn_images,
            (data.feature_views or 1) if random_settings(stream.transform) else 1,
            bool(stream.transform.augment_operations) and (stream.layout == "boxes" or name in shared),
        )
        for name, stream in data.streams.items()
        if stream.has_images and stream.image_stream is None
    }


def random_settings(transform: TransformConfig) -> dict[str, str]:
    """Return the settings that draw another view at each visit, with the value that turns each off."""
    found = {
        "crop_scale": (transform.crop_scale is not None, "null"),
        "flip": (transform.flip > 0, "0"),
        "augment_operations": (transform.augment_operations > 0, "0"),
        "random_convolution": (transform.random_convolution > 0, "0"),
    }
    return {name: off for name, (on, off) in found.items() if on}


def feature_faults(data: DataConfig, frozen: bool) -> Iterator[tuple[str, str]]:
    """Yield keys and messages of what keeps features from being cached.

    Args:
        data: of the recipe.
        frozen: whether the vision encoder is frozen in every step.
    """
    if data.feature_cache is None:
        if data.feature_views is not None:
            yield (
                "data.feature_views",
                "has no effect without data.feature_cache: the folder of cached features",
            )
        return
    if not frozen:
        yield (
            "data.feature_cache",
            "caches the outputs of a vision encoder that never changes, and this one is trained; set "
            "training.trainable.vision: none (without from_step, last_layers or lora), or data.feature_cache: null",
        )
    streams = {name: data.streams[name] for name in cached_images(data)}
    if not streams:
        yield "data.feature_cache", "no stream has images; set it to null"
    elif data.feature_views is not None and not any(
        random_settings(stream.transform) for stream in streams.values()
    ):
        yield (
            "data.feature_views",
            "all views are equal, as no stream crops, flips or augments; set it to null",
        )
    for name, stream in streams.items():
        yield from _stream_faults(f"data.streams.{name}", stream, data.feature_views)


def _stream_faults(key: str, stream: StreamConfig, views: int | None) -> Iterator[tuple[str, str]]:
    task = stream.task.component_name()
    if stream.has_videos:
        yield f"{key}.task", f"{task} reads videos, and only features of images are cached; {OFF}"
        return
    transform = stream.transform
    if views is None:
        for name, off in random_settings(transform).items():
            yield (
                f"{key}.transform.{name}",
                f"draws another view of an image in every epoch, found {getattr(transform, name)!r}; set it to {off}, "
                "or data.feature_views to a number of views that are drawn once and cached",
            )
    if stream.layout == "boxes" and transform.crop_scale is not None:
        yield (
            f"{key}.transform.crop_scale",
            f"{task} draws a crop around a box in every epoch; set it to null, or images_from of the task to a stream "
            "whose views are cached",
        )
    if stream.layout is None and transform.flip > 0:
        yield (
            f"{key}.transform.flip",
            f"{task} decides for each row whether its image may be flipped, so no flipped view is cached; set it to 0",
        )
