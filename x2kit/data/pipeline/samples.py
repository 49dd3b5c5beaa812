"""From a record to what one visit of it shows: images, texts and boxes, drawn. Imports torch.

Everything is a pure function of the record, the stream's settings and the sample's own generator. Whatever is
wrong with a record is a DataError: the stream skips and counts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """An image with its text; `record` and `view` are for the streams that share the image."""

    pixels: Pixels
    text: str
    record: Record
    view: View


class RegionTexts(NamedTuple):
    """Texts of one image with their boxes, cxcywh in [0, 1]; `whole` marks that of the whole image."""

    texts: list[str]
    bbox: list[tuple[float, ...]]
    whole: list[bool]


class RegionSample(NamedTuple):
    """An image with the texts of its regions."""

    pixels: Pixels
    regions: RegionTexts


class PairSample(NamedTuple):
    """Two texts of one meaning, with their languages."""

    first: str
    second: str
    languages: tuple[str, str]


def field(record: Mapping[str, Any], name: str) -> Any:
    """A field of a record. Raises DataError that lists the fields it has."""
    if name not in record:
        raise DataError(
            f"the record has no field {name!r}; it has {', '.join(record) or 'none'}",
            reason=Reason.FIELD_MISSING,
        )
    return record[name]


def image_sample(
    record: Record, config: StreamConfig, spec: ImageSpec, rng: Generator, keep_shape: bool = False
) -> ImageSample:
    """An image and one text of it.

    Args:
        record: with `image` and `caption`.
        config: of the image-text stream.
        spec: what the encoder wants.
        rng: the sample's own generator.
        keep_shape: augment with colours alone, since boxes of the image are needed.
    Raises: DataError for a missing field, a bad image or a text of which nothing remains.
    """
    text = clean(_draw(field(record, "caption"), config, rng), config.max_words)
    image = ImageLike(field(record, "image"), spec.channels, spec.value_range)
    may_flip = not config.transform.careful_flip or not has_sides(record)
    view = draw_view(image.size, config.transform, rng, may_flip)
    pixels = _shown(image, view, config, spec, rng, keep_shape)
    return ImageSample(pixels, text, record, view)


def region_sample(record: Record, config: StreamConfig, spec: ImageSpec, rng: Generator) -> RegionSample:
    """An image, cropped around one of its regions, and texts of what is left of it (X²-VLM, pre-training).

    With `crop_scale` null nothing is cropped; its numbers do not matter here, for the region rules the crop.

    Raises: DataError as `image_sample`, for a bad box, and for a record without any text.
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
    return RegionSample(_shown(image, view, config, spec, rng, keep_shape=True), chosen)


def region_texts(
    record: Record,
    config: StreamConfig,
    view: View,
    rng: Generator,
    *,
    order: list[int] | None = None,
    with_caption: bool = False,
) -> RegionTexts:
    """Texts of the regions that a view shows, at most `max_regions`.

    Args:
        record: with `regions`.
        config: of the region-text stream.
        view: what is seen of the image.
        rng: the sample's own generator.
        order: in which the regions are offered; None draws it.
        with_caption: the record's caption, if it has one, takes the first place, with the whole as its box.
    Raises: DataError for a missing field, a bad box or a text of which nothing remains.
    """
    regions = _few_regions(record, config)
    texts: list[str] = []
    bbox: list[tuple[float, ...]] = []
    whole: list[bool] = []
    if with_caption and "caption" in record:
        texts.append(clean(_draw(record["caption"], config, rng), config.max_words))
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
            texts.append(clean(_draw(field(regions[number], "caption"), config, rng), config.max_words))
            bbox.append(tuple(coordinates[number]))
            whole.append(False)
    return RegionTexts(texts, bbox, whole)


def pair_sample(record: Record, config: StreamConfig, rng: Generator) -> PairSample:
    """Two texts of a record in different languages; which is first is a coin (CCLM, arXiv:2206.00621).

    With `pivot` it is one side, and the other is drawn from `languages`; without, both are.

    Raises: DataError if the record has not two such languages, or a text of which nothing remains.
    """
    texts = field(record, "texts")
    if not isinstance(texts, dict):
        raise DataError(f"texts is {{code: text}}, found {texts!r}", reason=Reason.FIELD_TYPE)
    allowed = [code for code in texts if config.languages is None or code in config.languages]
    if config.pivot is not None:
        others = [code for code in allowed if code != config.pivot]
        if config.pivot not in texts or not others:
            raise DataError(
                f"the record has texts in {', '.join(texts) or 'no language'}; needed are {config.pivot} and "
                f"another of {', '.join(config.languages or ()) or 'any language'}",
                reason=Reason.LANGUAGE_MISSING,
            )
        codes = [config.pivot, others[int(rng.random() * len(others))]]
    elif len(allowed) < 2:
        raise DataError(
            f"the record has texts in {', '.join(texts) or 'no language'}; needed are two of "
            f"{', '.join(config.languages or ()) or 'any languages'}",
            reason=Reason.LANGUAGE_MISSING,
        )
    else:
        codes = [allowed[number] for number in rng.permutation(len(allowed))[:2].tolist()]
    if rng.random() < 0.5:
        codes.reverse()
    first, second = (clean(draw(texts[code], rng), config.max_words) for code in codes)
    return PairSample(first, second, (codes[0], codes[1]))


def text_sample(record: Record, config: StreamConfig, rng: Generator) -> str:
    """The text of a record without an image: its caption. Raises DataError if nothing of it remains."""
    return clean_text_alone(_draw(field(record, "caption"), config, rng), config.max_words)


def has_sides(record: Record) -> bool:
    """Whether any text of the record has the letters "left" or "right"; so has "bright" (official code).

    All its languages count, so that a German text is not mirrored where its English counterpart would not be.
    """
    return any("left" in text or "right" in text for text in map(str.lower, _all_texts(record)))


def _shown(
    image: ImageLike, view: View, config: StreamConfig, spec: ImageSpec, rng: Generator, keep_shape: bool
) -> Pixels:
    by = reduction(view, spec) if config.transform.reduced_decoding else 1
    return render_augmented(image.load(by), view, spec, config.transform, rng, keep_shape)


def _all_texts(record: Record) -> Iterator[str]:
    yield from all_texts(record.get("caption", []))
    for region in _regions(record) if "regions" in record else []:
        yield from all_texts(field(region, "caption"))


def _regions(record: Record) -> list[Region]:
    regions: list[Region] = field(record, "regions")
    if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
        raise DataError(
            f"regions is a list of {{bbox, caption}}, found {regions!r}", reason=Reason.FIELD_TYPE
        )
    return regions


def _few_regions(record: Record, config: StreamConfig) -> list[Region]:
    regions = _regions(record)
    if len(regions) > config.max_boxes:
        raise DataError(
            f"the record has {len(regions)} boxes; the stream takes at most max_boxes = {config.max_boxes}",
            reason=Reason.BOXES_TOO_MANY,
        )
    return regions


def _draw(text: Text, config: StreamConfig, rng: Generator) -> str:
    return draw(text, rng, config.languages)
