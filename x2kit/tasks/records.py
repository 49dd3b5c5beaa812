"""Records of the measured split: images and videos once, texts by language. Imports torch.

A broken record stops the measurement. To skip it would change the number of candidates, and with it the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.data.media.images import ImageLike
from x2kit.data.pipeline.video_samples import read_video
from x2kit.data.transforms.text import clean
from x2kit.data.transforms.view import stack_pixels, whole_image
from x2kit.distributed.ranks import Ranks
from x2kit.errors import DataError
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Record, Region, Source, Text
from x2kit.plugin.tasks import TaskContext
from x2kit.tasks.scoring import ImageBank, encode_image_bank, own_part

NO_CODE = "und"
"""Stands for the language of texts that say none (ISO 639: undetermined)."""


class Entry(NamedTuple):
    """What is kept of a record once its image is encoded.

    Attributes:
        id: of the record.
        size: (width, height) of the image or video in pixels, which boxes refer to.
        caption: as the record has it; None if it has none.
        regions: as the record has them.
        pixels: hash of the image as the encoder gets it; empty where only texts were read.
    """

    id: str
    size: tuple[int, int]
    caption: Text | None
    regions: list[Region]
    pixels: bytes = b""


def read_entries(source: Source, ranks: Ranks) -> list[Entry]:
    """Read the texts of all records without decoding an image; sizes are (0, 0). Each rank reads a part.

    Raises: DataError for a broken record.
    """
    total = len(source)
    part = range(ranks.rank * total // ranks.count, (ranks.rank + 1) * total // ranks.count)
    entries = [_entry(source[index], index, (0, 0)) for index in part]
    return list(chain.from_iterable(ranks.gather(entries)))


def _entry(record: Record, index: int, size: tuple[int, int], pixels: bytes = b"") -> Entry:
    regions = list(record.get("regions") or [])
    return Entry(str(record.get("id", index)), size, record.get("caption"), regions, pixels)


class MeasuredRecords:
    """Goes through a source once: `images` gives what the encoder wants, `entries` grows beside it.

    Args:
        source: the records.
        spec: what the encoder wants its images to be.
        frames: of a video that are seen; None where the model sees no videos.
    """

    def __init__(self, source: Source, spec: ImageSpec, frames: int | None = None) -> None:
        self._source, self._spec, self._frames = source, spec, frames
        self.entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self._source)

    def images(self, positions: Iterable[int] | None = None) -> Iterator[Tensor]:
        """Images [C, S, S] and videos [F, C, S, S] float in [0, 1], by position.

        Args:
            positions: which records; all by default.
        Raises: DataError for the first broken record, or the first video where the model sees none.
        """
        for index in range(len(self)) if positions is None else positions:
            record = self._source[index]
            name = str(record.get("id", index))
            try:
                pixels, size = self._seen(record)
            except DataError as error:
                raise DataError(f"record {name}: {error}", reason=error.reason) from error
            digest = blake2b(pixels.numpy().tobytes(), digest_size=16).digest()
            self.entries.append(_entry(record, index, size, digest))
            yield pixels

    def _seen(self, record: Record) -> tuple[Tensor, tuple[int, int]]:
        if record.get("image") is not None:
            image = ImageLike(record["image"], self._spec.channels, self._spec.value_range)
            return stack_pixels([whole_image(image, self._spec)])[0], image.size
        if record.get("video") is None:
            raise DataError("no image; evaluation needs one, or a video, in every record")
        if self._frames is None:
            raise DataError("a video, but this model has no positions for its frames (model.heads.frames)")
        video = read_video(record["video"], self._frames, self._spec)
        return stack_pixels(video.frames), video.size


def texts_in(text: Text | None, language: str, only: bool) -> list[str]:
    """The texts of one language that a record offers, as they were written.

    Args:
        text: of the record.
        language: its code.
        only: whether no other language is measured; a text without a code then counts as one of this language.
    Raises: DataError for a text without a code where several languages are measured.
    """
    found = []
    for choice in text if isinstance(text, list) else [text]:
        if isinstance(choice, dict):
            if choice.get(language):
                found.append(choice[language])
        elif choice is not None:
            if not only:
                raise DataError(
                    f"the text {choice!r} has no language and several are measured; write {{code: text}}, "
                    f"or measure one: --evaluation.languages '[{language}]'"
                )
            found.append(choice)
    return found


class Queries(NamedTuple):
    """The texts of one language and the image of each.

    Attributes:
        texts: T cleaned texts.
        images: T positions of entries.
    """

    texts: list[str]
    images: list[int]


def captions(entries: Sequence[Entry], language: str, only: bool, max_words: int) -> Queries:
    """All captions of one language. Raises DataError, with the record's id, for one that cleans to nothing."""
    texts: list[str] = []
    images: list[int] = []
    for position, entry in enumerate(entries):
        for text in _of(entry, entry.caption, language, only):
            texts.append(_cleaned(entry, text, max_words))
            images.append(position)
    return Queries(texts, images)


class NamedBoxes(NamedTuple):
    """The regions of one language.

    Attributes:
        texts: R cleaned texts.
        images: R positions of entries.
        bbox: R boxes, cxcywh in [0, 1].
    """

    texts: list[str]
    images: list[int]
    bbox: list[list[float]]


def named_boxes(entries: Sequence[Entry], language: str, only: bool, max_words: int) -> NamedBoxes:
    """All regions that have a text of one language. Raises DataError, with the record's id, for a bad box or text."""
    boxes = NamedBoxes([], [], [])
    for position, entry in enumerate(entries):
        for region in entry.regions:
            for text in _of(entry, region["caption"], language, only):
                boxes.texts.append(_cleaned(entry, text, max_words))
                boxes.images.append(position)
                boxes.bbox.append(normalised(entry, region["bbox"]))
    return boxes


def region_texts(entries: Sequence[Entry], language: str, only: bool, max_words: int) -> list[str]:
    """All region texts of one language. Raises DataError, with the record's id, for one that cleans to nothing."""
    return [
        _cleaned(entry, text, max_words)
        for entry in entries
        for region in entry.regions
        for text in _of(entry, region["caption"], language, only)
    ]


def common_captions(entries: Sequence[Entry], languages: Sequence[str]) -> list[Entry]:
    """The entries; captions that lack one of the languages are removed."""
    only = len(languages) == 1
    return [
        entry
        if all(_of(entry, entry.caption, language, only) for language in languages)
        else entry._replace(caption=None)
        for entry in entries
    ]


def common_regions(entries: Sequence[Entry], languages: Sequence[str]) -> list[Entry]:
    """The entries with those regions that have a text in every language."""
    only = len(languages) == 1
    return [
        entry._replace(
            regions=[
                region
                for region in entry.regions
                if all(_of(entry, region["caption"], language, only) for language in languages)
            ]
        )
        for entry in entries
    ]


def normalised(entry: Entry, bbox: Sequence[float]) -> list[float]:
    """A box [x, y, width, height] in pixels as cxcywh in [0, 1]. Raises DataError if it is not inside the image."""
    x, y, w, h = (float(number) for number in bbox)
    width, height = entry.size
    slack = 1e-3 * max(width, height)  # boxes that were rounded on the way may reach over the edge by a hair
    if not (
        w > 0 and h > 0 and x >= -slack and y >= -slack and x + w <= width + slack and y + h <= height + slack
    ):
        raise DataError(
            f"record {entry.id}: box {list(bbox)} is not inside its image of {width} x {height} pixels"
        )
    return [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]


def spoken_languages(source: Source) -> tuple[str, ...]:
    """Codes found in the captions and region texts of all records, as they come; reads every record."""
    found: dict[str, None] = {}
    for index in range(len(source)):
        for text in _texts(source[index]):
            for choice in text if isinstance(text, list) else [text]:
                found.update(dict.fromkeys(choice if isinstance(choice, dict) else [NO_CODE]))
    return tuple(found)


def _texts(record: Record) -> Iterable[Text]:
    if record.get("caption"):
        yield record["caption"]
    for region in record.get("regions") or []:
        yield region["caption"]


def _of(entry: Entry, text: Text | None, language: str, only: bool) -> list[str]:
    try:
        return texts_in(text, language, only)
    except DataError as error:
        raise DataError(f"record {entry.id}: {error}") from error


def _cleaned(entry: Entry, text: str, max_words: int) -> str:
    try:
        return clean(text, max_words)
    except DataError as error:
        raise DataError(f"record {entry.id}: {error}") from error


def encode_records(
    context: TaskContext, frames: int | None, project: bool = True
) -> tuple[ImageBank, list[Entry]]:
    """Encode the image or video of every record; each process reads and encodes its own part of them.

    Args:
        context: of the task.
        frames: of a video that are seen; None where no videos are.
        project: compute the unit vectors, for which the model needs its contrastive head.
    Returns: bank and entries of all records, by position, in every process.
    Raises: DataError for a broken record, or if there is none at all.
    """
    total, size = len(context.source), context.batch_size
    if not total:
        raise DataError(f"the split {context.split} has no records")
    batches = torch.split(torch.arange(total), size)
    mine = own_part(torch.tensor([len(batch) for batch in batches]), context.ranks)
    positions = range(mine.start * size, min(mine.stop * size, total))
    records = MeasuredRecords(context.source, context.model.image_spec, frames)
    bank = None
    if positions:
        bank = encode_image_bank(
            context.model,
            records.images(positions),
            len(positions),
            size,
            lambda done, total: context.progress("images", done, total),
            project,
        )
    entries = chain.from_iterable(context.ranks.gather(records.entries))
    return ImageBank.of_all(bank, context.ranks), list(entries)
