"""Draw images and texts with the settings of a stream, and hold what pretraining draws of a record. Imports torch.

A draw is a pure function of the record, the stream's settings and the sample's generator. Any fault of a record
raises DataError; the stream skips and counts the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from numpy.random import Generator

from x2kit.data.config import StreamConfig
from x2kit.data.media.images import ImageLike
from x2kit.data.transforms.text import all_texts, clean, clean_text_alone, draw
from x2kit.data.transforms.view import Pixels, View, decode, reduction, render_augmented
from x2kit.errors import DataError, Reason
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Record, Region, Text


class RegionTexts(NamedTuple):
    """Texts of one image with their boxes, cxcywh in [0, 1]; `whole` is True for the text of the whole image."""

    texts: list[str]
    bbox: list[tuple[float, ...]]
    whole: list[bool]

    def select(self, rows: Sequence[int]) -> RegionTexts:
        """Return the given rows."""
        return RegionTexts(*([values[row] for row in rows] for values in self))  # type: ignore[arg-type]


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
    for region in regions_of(record) if "regions" in record else []:
        yield field(region, "caption")


def regions_of(record: Record) -> list[Region]:
    """Return the regions of a record. Raises DataError if there is no such field, or it holds something else."""
    regions: list[Region] = field(record, "regions")
    if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
        raise DataError(
            f"regions must be a list of {{bbox, caption}}, found {regions!r}", reason=Reason.FIELD_TYPE
        )
    return regions


def draw_text(
    text: Text, config: StreamConfig, rng: Generator, raw: bool = False, alone: bool = False
) -> str:
    """Draw one of several texts in the languages of a stream, and clean it unless `raw`.

    Args:
        alone: clean it as a text of a stream without images.

    Raises: DataError for a text in none of the languages, or one that is empty after cleaning.
    """
    drawn = draw(text, rng, config.languages)
    if raw:
        return drawn
    return (clean_text_alone if alone else clean)(drawn, config.max_words)


def render_view(
    image: ImageLike, view: View, config: StreamConfig, spec: ImageSpec, rng: Generator, keep_shape: bool
) -> Pixels:
    """Read, crop, flip and augment an image; `keep_shape` for augmentation in colour only.

    Raises: DataError if it is unreadable.
    """
    by = reduction(view, spec) if config.transform.reduced_decoding else 1
    return render_augmented(decode(image, spec, by), view, spec, config.transform, rng, keep_shape)
