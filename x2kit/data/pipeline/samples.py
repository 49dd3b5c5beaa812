"""Draw image, text and boxes of a training sample from a record. Imports torch.

A sample is a pure function of the record, the stream's settings and the sample's generator. Any fault of a record
raises DataError; the stream skips and counts the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.random import Generator

from x2kit.data.config import StreamConfig
from x2kit.data.media.images import ImageLike
from x2kit.data.transforms.boxes import WHOLE, guided_crop, place_boxes, read_boxes
from x2kit.data.transforms.text import all_texts, clean, clean_text_alone, draw
from x2kit.data.transforms.view import Pixels, View, draw_flip, draw_view, reduction, render_augmented
from x2kit.errors import DataError, Reason
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Record, Region, Text


class ImageSample(NamedTuple):
    """An image with a text; streams that share the image use `record` and `view`."""

    pixels: Pixels
    text: str
    record: Record
    view: View


class RegionTexts(NamedTuple):
    """Texts of one image with their boxes, cxcywh in [0, 1]; `whole` is True for the text of the whole image."""

    texts: list[str]
    bbox: list[tuple[float, ...]]
    whole: list[bool]

    def select(self, rows: Sequence[int]) -> RegionTexts:
        """Return the given rows."""
        return RegionTexts(*([values[row] for row in rows] for values in self))  # type: ignore[arg-type]


class RegionSample(NamedTuple):
    """An image with the texts of its regions."""

    pixels: Pixels
    regions: RegionTexts


class PairSample(NamedTuple):
    """A text and its translation, with their languages."""

    first: str
    second: str
    languages: tuple[str, str]


def field(record: Mapping[str, Any], name: str) -> Any:
    """Return a field of a record. Raises DataError with the fields that the record has."""
    if name not in record:
        raise DataError(
            f"the record has no field {name!r}; it has {', '.join(record) or 'none'}",
            reason=Reason.FIELD_MISSING,
        )
    return record[name]


def image_sample(
    record: Record, config: StreamConfig, spec: ImageSpec, rng: Generator, keep_shape: bool = False
) -> ImageSample:
    """Draw an image and one of its texts.

    Args:
        record: with `image` and `caption`.
        config: of the image-text stream.
        spec: input of the encoder.
        rng: the sample's generator.
        keep_shape: augment colours only, because a region stream uses the boxes of the image.
    Raises: DataError for a missing field, an unreadable image, or a text that is empty after cleaning.
    """
    text = draw_text(field(record, "caption"), config, rng)
    image = ImageLike(field(record, "image"), spec.channels, spec.value_range)
    may_flip = not config.transform.careful_flip or not has_sides(record)
    view = draw_view(image.size, config.transform, rng, may_flip)
    pixels = _render(image, view, config, spec, rng, keep_shape)
    return ImageSample(pixels, text, record, view)


def region_sample(record: Record, config: StreamConfig, spec: ImageSpec, rng: Generator) -> RegionSample:
    """Draw an image cropped around one of its regions, and texts of the regions in the crop (X²-VLM, pre-training).

    The region determines the crop: of `crop_scale` only null, no crop, has an effect.

    Raises: DataError as `image_sample`, for an invalid box, and for a record without any text.
    """
    image = ImageLike(field(record, "image"), spec.channels, spec.value_range)
    size = image.size
    regions = _few_regions(record, config)
    if not regions and "caption" not in record:
        raise DataError("the record has neither regions nor a caption", reason=Reason.FIELD_MISSING)
    boxes = read_boxes([field(region, "bbox") for region in regions], size)
    order = rng.permutation(len(regions)).tolist()
    crop = None
    if config.transform.crop_scale is not None and order:
        crop = guided_crop(boxes[order[0]].tolist(), size, rng)
    flip = draw_flip(config.transform, rng)
    view = View(size, crop, flip and not (config.transform.careful_flip and has_sides(record)))
    chosen = region_texts(record, config, view, rng, order=order, with_caption=True)
    return RegionSample(_render(image, view, config, spec, rng, keep_shape=True), chosen)


def region_texts(
    record: Record,
    config: StreamConfig,
    view: View,
    rng: Generator,
    *,
    order: list[int] | None = None,
    with_caption: bool = False,
) -> RegionTexts:
    """Draw texts of the regions in a view, at most `max_regions`.

    Args:
        record: with `regions`.
        config: of the region-text stream.
        view: crop and flip of the image.
        rng: the sample's generator.
        order: in which regions are taken; None draws it.
        with_caption: put the record's caption, if any, first, with the whole image as its box.
    Raises: DataError for a missing field, an invalid box, or a text that is empty after cleaning.
    """
    regions = _few_regions(record, config)
    texts: list[str] = []
    bbox: list[tuple[float, ...]] = []
    whole: list[bool] = []
    if with_caption and "caption" in record:
        texts.append(draw_text(record["caption"], config, rng))
        bbox.append(WHOLE)
        whole.append(True)
    if not regions:
        return RegionTexts(texts, bbox, whole)
    boxes = read_boxes([field(region, "bbox") for region in regions], view.size)
    placed = place_boxes(boxes, view)
    kept, coordinates = placed.kept.tolist(), placed.bbox.tolist()
    for number in rng.permutation(len(regions)).tolist() if order is None else order:
        if len(texts) >= config.max_regions:
            break
        if kept[number]:
            texts.append(draw_text(field(regions[number], "caption"), config, rng))
            bbox.append(tuple(coordinates[number]))
            whole.append(False)
    return RegionTexts(texts, bbox, whole)


def pair_sample(record: Record, config: StreamConfig, rng: Generator) -> PairSample:
    """Draw two texts of a record in different languages, in random order (CCLM, arXiv:2206.00621).

    With `pivot`, one text is in that language and the other is drawn from `languages`; else both are drawn.

    Raises: DataError if the record lacks two such languages, or a text is empty after cleaning.
    """
    texts = field(record, "texts")
    if not isinstance(texts, dict):
        raise DataError(f"texts must be {{code: text}}, found {texts!r}", reason=Reason.FIELD_TYPE)
    allowed = [code for code in texts if config.languages is None or code in config.languages]
    others = [code for code in allowed if code != config.pivot]
    if len(allowed) < 2 if config.pivot is None else config.pivot not in texts or not others:
        needed = "two of" if config.pivot is None else f"{config.pivot} and another of"
        raise DataError(
            f"the record has texts in {', '.join(texts) or 'no language'}; needed are {needed} "
            f"{', '.join(config.languages or ()) or 'any language'}",
            reason=Reason.LANGUAGE_MISSING,
        )
    if config.pivot is not None:
        codes = [config.pivot, others[int(rng.random() * len(others))]]
    else:
        codes = [allowed[number] for number in rng.permutation(len(allowed))[:2].tolist()]
    if rng.random() < 0.5:
        codes.reverse()
    first, second = (clean(draw(texts[code], rng), config.max_words) for code in codes)
    return PairSample(first, second, (codes[0], codes[1]))


def text_sample(record: Record, config: StreamConfig, rng: Generator) -> str:
    """Draw the caption of a record without image. Raises DataError if it is empty after cleaning."""
    return clean_text_alone(draw_text(field(record, "caption"), config, rng, raw=True), config.max_words)


def has_sides(record: Record) -> bool:
    """Return whether any text contains "left" or "right", in any language; "bright" counts (official code).

    An image is thus flipped, or not, for all languages of its record alike.
    """
    texts = (text.lower() for caption in _captions(record) for text in all_texts(caption))
    return any("left" in text or "right" in text for text in texts)


def _captions(record: Record) -> Iterator[Text]:
    yield record.get("caption", [])
    yield record.get("question", [])
    yield list(record.get("answers", ()))
    yield from record.get("options", ())
    for region in _regions(record) if "regions" in record else []:
        yield field(region, "caption")


def _render(
    image: ImageLike, view: View, config: StreamConfig, spec: ImageSpec, rng: Generator, keep_shape: bool
) -> Pixels:
    by = reduction(view, spec) if config.transform.reduced_decoding else 1
    return render_augmented(image.load(by), view, spec, config.transform, rng, keep_shape)


def _regions(record: Record) -> list[Region]:
    regions: list[Region] = field(record, "regions")
    if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
        raise DataError(
            f"regions must be a list of {{bbox, caption}}, found {regions!r}", reason=Reason.FIELD_TYPE
        )
    return regions


def _few_regions(record: Record, config: StreamConfig) -> list[Region]:
    regions = _regions(record)
    if len(regions) > config.max_boxes:
        raise DataError(
            f"the record has {len(regions)} boxes, more than max_boxes = {config.max_boxes}",
            reason=Reason.BOXES_TOO_MANY,
        )
    return regions


def draw_text(text: Text, config: StreamConfig, rng: Generator, raw: bool = False) -> str:
    """Draw one of several texts in the languages of a stream, and clean it unless `raw`.

    Raises: DataError for a text in none of the languages, or one that is empty after cleaning.
    """
    drawn = draw(text, rng, config.languages)
    return drawn if raw else clean(drawn, config.max_words)


def draw_image(
    image: ImageLike, config: StreamConfig, spec: ImageSpec, rng: Generator, may_flip: bool
) -> Pixels:
    """Crop, flip and augment an image. Raises DataError if it is unreadable."""
    view = draw_view(image.size, config.transform, rng, may_flip)
    return _render(image, view, config, spec, rng, keep_shape=False)
