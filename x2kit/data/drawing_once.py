"""A record drawn as a stream would draw it, and all of its texts looked at, to see whether it is sound. Imports torch.

A visit in training draws one text and some regions. A fault in the others would show in a later epoch, so all are
looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from numpy.random import Generator

from x2kit.data.config import StreamConfig
from x2kit.data.pictures import Picture
from x2kit.data.regions import read_boxes
from x2kit.data.samples import field, image_sample, pair_sample, region_sample, region_texts, text_sample
from x2kit.data.text import clean, clean_text_alone, variants
from x2kit.data.transforms import View
from x2kit.data.video_samples import seen_video, video_sample
from x2kit.errors import DataError, Reason
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Record, Text


def draw_once(
    record: Record, config: StreamConfig | None, spec: ImageSpec, rng: Generator, keep_shape: bool = False
) -> View | None:
    """Draw a record.

    Args:
        record: of any kind.
        config: of the stream; None for the records of an evaluation.
        spec: what the vision encoder wants.
        rng: the sample's own generator.
        keep_shape: as for `image_sample`.
    Returns: what an image-text stream sees of the picture, None for other kinds.
    Raises: DataError if the record is broken.
    """
    view = None
    if config is None:
        _require_measurable(record, spec)
        return None
    if config.kind == "image-text":
        view = image_sample(record, config, spec, rng, keep_shape).view
    elif config.kind == "region-text":
        region_sample(record, config, spec, rng)
        _require_regions(record, config)
    elif config.kind == "video-text":
        video_sample(record, config, spec, rng)
    elif config.kind == "parallel-text":
        pair_sample(record, config, rng)
        for text in _of_languages(record["texts"], config.languages):
            clean(text, config.max_words)
        return None
    else:
        text_sample(record, config, rng)
        for text in _of_languages(record["caption"], config.languages):
            clean_text_alone(text, config.max_words)
        return None
    for text in _of_languages(record.get("caption", []), config.languages):
        clean(text, config.max_words)
    return view


def draw_shared_once(record: Record, config: StreamConfig, view: View, rng: Generator) -> None:
    """Draw the regions of a picture that an image-text stream has drawn. Raises DataError if one is broken."""
    region_texts(record, config, view, rng)
    _require_regions(record, config)


def _require_regions(record: Record, config: StreamConfig) -> None:
    for region in record["regions"]:
        for text in _of_languages(field(region, "caption"), config.languages):
            clean(text, config.max_words)


def _require_measurable(record: Record, spec: ImageSpec) -> None:
    """What is there must be sound: an evaluation stops at a broken record, for to skip it would change the result."""
    if "video" in record:
        seen_video(record["video"], 1, spec)
        size = None
    else:
        picture = Picture(field(record, "image"), spec.channels, spec.value_range)
        picture.load()
        size = picture.size
    for text in variants(record.get("caption") or []):
        clean(text)
    regions = record.get("regions") or []
    if regions and size is not None:
        read_boxes([field(region, "bbox") for region in regions], size)
    for region in regions:
        for text in variants(field(region, "caption")):
            clean(text)


def _of_languages(text: Text, languages: Sequence[str] | None) -> Iterator[str]:
    """Every text that a stream of these languages could draw."""
    for choice in text if isinstance(text, list) else [text]:
        found = choice if isinstance(choice, dict) else {"": choice}
        for code, one in found.items():
            if not isinstance(one, str):
                raise DataError(f"a text is a str, found {one!r}", reason=Reason.FIELD_TYPE)
            if not code or languages is None or code in languages:
                yield one
