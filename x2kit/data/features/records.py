"""Render the views of a record that are cached, and read their features in place of pixels. Imports torch.

View v of an image is drawn from the positions of record and image and from v, so that every run draws the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator, Philox

from x2kit.data.config import StreamConfig
from x2kit.data.features.rules import CachedImages
from x2kit.data.features.shards import (
    NO_FILE,
    FeatureReader,
    Stamp,
    StoredImage,
    is_unchanged,
    stamp_of,
)
from x2kit.data.media.images import ImageLike
from x2kit.data.pipeline.samples import has_sides, render_view
from x2kit.data.transforms.view import Pixels, View, draw_view
from x2kit.errors import DataError, PluginError, Reason
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Record

_KEY = int.from_bytes(b"features", "little")
"""Separates these random numbers from those of the streams, whose key is a hash."""


class RenderedView(NamedTuple):
    """A view of an image to encode; without pixels if the image could not be read."""

    pixels: Pixels | None
    view: View | None
    stamp: Stamp


def images_of(record: Record, count: int) -> list[Any]:
    """Return the images of a record that tasks read: `image`, or the first `count` of `images`."""
    one, several = record.get("image"), record.get("images")
    if one is not None and (count == 1 or not several):
        return [one]
    return list(several or ())[:count]


def render_views(
    record: Record | None, index: int, config: StreamConfig, cached: CachedImages, spec: ImageSpec
) -> list[RenderedView]:
    """Render each view of each image of a record, in the order of the rows of a shard.

    Args:
        record: None if it is broken.
        index: its position in the source.
        config: of a stream that draws it.
        cached: what is cached of it.
        spec: input of the vision encoder.
    """
    images = [] if record is None else images_of(record, cached.images)
    may_flip = record is not None and not (config.transform.careful_flip and _has_sides(record))
    rendered = []
    for number in range(cached.images):
        for view in range(cached.views):
            rng = Generator(Philox(counter=np.array([0, index, number, view], np.uint64), key=_KEY))
            image = images[number] if number < len(images) else None
            rendered.append(_render(image, config, cached, spec, rng, may_flip))
    return rendered


def _has_sides(record: Record) -> bool:
    try:
        return has_sides(record)
    except DataError:  # of the texts: a stream that draws them reports the record
        return True


def _render(
    image: Any,
    config: StreamConfig,
    cached: CachedImages,
    spec: ImageSpec,
    rng: Generator,
    may_flip: bool,
) -> RenderedView:
    try:
        stamp = stamp_of(image)
        opened = ImageLike(image, spec.channels, spec.value_range)
        view = draw_view(opened.size, config.transform, rng, may_flip)
        return RenderedView(render_view(opened, view, config, spec, rng, cached.keep_shape), view, stamp)
    except (DataError, OSError):  # the stream that draws the record reads the image again and reports it
        return RenderedView(None, None, NO_FILE)


class RecordFeatures:
    """The cached images of a record.

    Args:
        reader: of the features of its source.
        record: as read from the source.
        index: its position in the source.
        epoch: each takes the next view of an image.
    """

    def __init__(self, reader: FeatureReader, record: Record, index: int, epoch: int) -> None:
        self._reader, self._record = reader, record
        self._index, self._view = index, (epoch + index) % reader.folder.views

    @property
    def remedy(self) -> str:
        """What computes the features again."""
        return f"delete {self._reader.folder.path}, and the next run computes its features again"

    def image(self, value: Any) -> StoredImage:
        """Return the features of an image of the record.

        Args:
            value: the image itself, not a copy: its place in the record tells which one it is.
        Raises: PluginError for another image; DataError if it has changed since.
        """
        images = images_of(self._record, self._reader.folder.images)
        number = next((place for place, image in enumerate(images) if image is value), None)
        if number is None:
            raise PluginError(
                "data.feature_cache: the task reads an image that is not a field of the record, so it has no cached "
                f"features: {type(value).__name__}; pass record['image'], or an item of record['images'], to the "
                "reader, or set data.feature_cache to null"
            )
        found = self._reader.image(self._index, number, self._view)
        if found.view is not None and not _is_unchanged(value, found.stamp):
            raise DataError(
                f"{value}: the image has changed since its features were cached; {self.remedy}",
                reason=Reason.FILE_CHANGED,
            )
        return found


def _is_unchanged(image: Any, stamp: Stamp) -> bool:
    try:
        return is_unchanged(image, stamp)
    except FileNotFoundError as error:
        raise DataError(f"no image at {image}", reason=Reason.FILE_MISSING) from error
    except OSError as error:
        raise DataError(f"{image}: {error.strerror}", reason=Reason.FILE_UNREADABLE) from error
