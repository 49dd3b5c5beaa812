"""Read the records of an evaluation: images and videos once, texts by language. Imports torch.

A broken record stops the evaluation: skipping it would change the number of candidates, and so the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.data.media.images import ImageLike
from x2kit.data.media.threads import in_threads
from x2kit.data.pipeline.video_samples import read_video
from x2kit.data.transforms.text import clean
from x2kit.data.transforms.view import stack_pixels, whole_image
from x2kit.distributed.ranks import Ranks
from x2kit.errors import DataError
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Detection, Record, Region, Source, Text
from x2kit.plugin.tasks import TaskContext
from x2kit.tasks.scoring import ImageBank, encode_image_bank, jobs_of_rank

NO_CODE = "und"
"""Language code of texts without one (ISO 639: undetermined)."""


class Entry(NamedTuple):
    """A record without its pixels, kept after its image is encoded.

    Attributes:
        id: of the record.
        size: (width, height) of the image or video in pixels, which boxes refer to.
        caption: of the record; None if it has none.
        regions: of the record.
        pixels: hash of the image as the encoder gets it; empty if only texts were read.
        detections: boxes of a detector, of the record.
    """

    id: str
    size: tuple[int, int]
    caption: Text | None
    regions: list[Region]
    pixels: bytes = b""
    detections: Sequence[Detection] = ()


def read_entries(source: Source, ranks: Ranks) -> list[Entry]:
    """Read the texts of all records, decoding no image; sizes are (0, 0). Each rank reads a part.

    Raises: DataError for a broken record.
    """
    total = len(source)
    part = range(ranks.rank * total // ranks.count, (ranks.rank + 1) * total // ranks.count)
    entries = [_entry(source[index], index, (0, 0)) for index in part]
    return list(chain.from_iterable(ranks.gather(entries)))


def _entry(record: Record, index: int, size: tuple[int, int], pixels: bytes = b"") -> Entry:
    regions = list(record.get("regions") or [])
    detections = list(record.get("detections") or [])
    return Entry(str(record.get("id", index)), size, record.get("caption"), regions, pixels, detections)


AHEAD = 32
"""Minimum number of records whose decoded images wait for the model."""


class RecordReader:
    """Read a source once: `images` yields pixels for the encoder, decoded in threads, and appends to `entries`.

    Args:
        source: the records.
        spec: the images that the encoder takes.
        frames: read of each video; None if the model takes no videos.
    """

    def __init__(self, source: Source, spec: ImageSpec, frames: int | None = None) -> None:
        self._source, self._spec, self._frames = source, spec, frames
        self.entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self._source)

    def images(self, positions: Iterable[int] | None = None) -> Iterator[Tensor]:
        """Yield images [C, S, S] and videos [F, C, S, S], float in [0, 1].

        Args:
            positions: of the records to read; all by default.
        Raises: DataError for the first broken record, or the first video if the model takes none.
        """
        numbers = range(len(self)) if positions is None else positions
        records = ((index, self._source[index]) for index in numbers)  # a source serves one thread
        for entry, pixels in in_threads(self._read, records, AHEAD):
            self.entries.append(entry)
            yield pixels

    def _read(self, numbered: tuple[int, Record]) -> tuple[Entry, Tensor]:
        index, record = numbered
        with _named(str(record.get("id", index))):
            pixels, size = self._load(record)
        digest = blake2b(pixels.numpy().tobytes(), digest_size=16).digest()
        return _entry(record, index, size, digest), pixels

    def _load(self, record: Record) -> tuple[Tensor, tuple[int, int]]:
        if record.get("image") is not None:
            image = ImageLike(record["image"], self._spec.channels, self._spec.value_range)
            return stack_pixels([whole_image(image, self._spec)])[0], image.size
        if record.get("video") is None:
            raise DataError("no image; evaluation needs an image or a video in every record")
        if self._frames is None:
            raise DataError("a video, but the model has no frame positions (model.heads.frames)")
        video = read_video(record["video"], self._frames, self._spec)
        return stack_pixels(video.frames), video.size


@contextmanager
def _named(record: str) -> Iterator[None]:
    """Prefix DataErrors with the record's id."""
    try:
        yield
    except DataError as error:
        raise DataError(f"record {record}: {error}", reason=error.reason) from error


def texts_in(text: Text | None, language: str, only: bool) -> list[str]:
    """Return the texts of one language in a text field, uncleaned.

    Args:
        text: field of a record.
        language: its code.
        only: whether this is the only measured language; a text without a code then counts as one of it.
    Raises: DataError for a text without a code if several languages are measured.
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
    """Collect all captions of one language. Raises DataError, with the record's id, for one that cleans to nothing."""
    found = Queries([], [])
    for position, entry in enumerate(entries):
        for text in _cleaned(entry, entry.caption, language, only, max_words):
            found.texts.append(text)
            found.images.append(position)
    return found


class RegionTexts(NamedTuple):
    """The region texts of one language.

    Attributes:
        texts: R cleaned texts.
        images: R positions of entries.
        bbox: R boxes, cxcywh in [0, 1].
        pixels: R boxes, xywh in pixels.
    """

    texts: list[str]
    images: list[int]
    bbox: list[list[float]]
    pixels: list[list[float]]


def regions_in(entries: Sequence[Entry], language: str, only: bool, max_words: int) -> RegionTexts:
    """Collect the regions with a text in one language. Raises DataError, with the record id, for a bad box or text."""
    found = RegionTexts([], [], [], [])
    for position, entry in enumerate(entries):
        for region in entry.regions:
            for text in _cleaned(entry, region["caption"], language, only, max_words):
                found.texts.append(text)
                found.images.append(position)
                found.bbox.append(normalised(entry, region["bbox"]))
                found.pixels.append([float(number) for number in region["bbox"]])
    return found


def detections_in(entry: Entry) -> list[list[float]]:
    """Return the detected boxes, xywh in pixels. Raises DataError, with the record id, for a box without area."""
    boxes = [[float(number) for number in detection["bbox"]] for detection in entry.detections]
    for box in boxes:
        if len(box) != 4 or not (box[2] > 0 and box[3] > 0):
            raise DataError(
                f"record {entry.id}: detection {box} is not a box [x, y, width, height] with an area"
            )
    return boxes


def has_region_texts(entries: Sequence[Entry], language: str, only: bool, max_words: int) -> bool:
    """Clean all region texts of one language and tell whether there are any, reading no box."""
    texts = [
        text
        for entry in entries
        for region in entry.regions
        for text in _cleaned(entry, region["caption"], language, only, max_words)
    ]
    return bool(texts)


def common_captions(entries: Sequence[Entry], languages: Sequence[str]) -> list[Entry]:
    """Drop the captions of entries that lack a caption in one of the languages."""
    return [
        entry if _in_all(entry, entry.caption, languages) else entry._replace(caption=None)
        for entry in entries
    ]


def common_regions(entries: Sequence[Entry], languages: Sequence[str]) -> list[Entry]:
    """Drop the regions that lack a text in one of the languages."""
    return [
        entry._replace(regions=[each for each in entry.regions if _in_all(entry, each["caption"], languages)])
        for entry in entries
    ]


def _in_all(entry: Entry, text: Text | None, languages: Sequence[str]) -> bool:
    with _named(entry.id):
        return all(texts_in(text, language, len(languages) == 1) for language in languages)


def _cleaned(entry: Entry, text: Text | None, language: str, only: bool, max_words: int) -> list[str]:
    with _named(entry.id):
        return [clean(each, max_words) for each in texts_in(text, language, only)]


def normalised(entry: Entry, bbox: Sequence[float]) -> list[float]:
    """Convert [x, y, width, height] in pixels to cxcywh in [0, 1]. Raises DataError for a box outside its image."""
    x, y, w, h = (float(number) for number in bbox)
    width, height = entry.size
    slack = 1e-3 * max(width, height)  # tolerance for boxes that were rounded earlier
    if not (
        w > 0 and h > 0 and x >= -slack and y >= -slack and x + w <= width + slack and y + h <= height + slack
    ):
        raise DataError(
            f"record {entry.id}: box {list(bbox)} is not inside its image of {width} x {height} pixels"
        )
    return [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]


def numbered(records: Iterable[str]) -> list[str]:
    """Return ids of texts from those of their records, in order: photo#0, photo#1 for the texts of "photo"."""
    seen: Counter[str] = Counter()
    found = []
    for record in records:
        found.append(f"{record}#{seen[record]}")
        seen[record] += 1
    return found


def find_languages(source: Source) -> tuple[str, ...]:
    """Read every record and list the language codes of captions, questions and region texts in order of appearance."""
    found: dict[str, None] = {}
    for index in range(len(source)):
        record = source[index]
        texts = [
            record.get("caption") or [],
            record.get("question") or [],
            *(region["caption"] for region in record.get("regions") or []),
        ]
        for text in texts:
            for choice in text if isinstance(text, list) else [text]:
                found.update(dict.fromkeys(choice if isinstance(choice, dict) else [NO_CODE]))
    return tuple(found)


def encode_records(
    context: TaskContext, frames: int | None, project: bool = True
) -> tuple[ImageBank, list[Entry]]:
    """Encode the image or video of every record; each rank reads and encodes its part.

    Args:
        context: of the task.
        frames: read of each video; None if the task takes no videos.
        project: compute the unit vectors, which needs the contrastive head.
    Returns: bank and entries of all records, by position, on every rank.
    Raises: DataError for a broken record or a split without records.
    """
    total, size = len(context.source), context.batch_size
    if not total:
        raise DataError(f"the split {context.split} has no records")
    batches = torch.split(torch.arange(total), size)
    mine = jobs_of_rank(torch.tensor([len(batch) for batch in batches]), context.ranks)
    positions = range(mine.start * size, min(mine.stop * size, total))
    records = RecordReader(context.source, context.model.image_spec, frames)
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
    return ImageBank.gather(bank, context.ranks), list(entries)
