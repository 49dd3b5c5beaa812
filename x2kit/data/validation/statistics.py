"""Count text lengths, truncated texts, box areas and duplicate contents of records. Imports no torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from x2kit.data.config import StreamConfig
from x2kit.data.storage.files import read
from x2kit.data.transforms.text import clean, text_only_caption, texts_of_languages
from x2kit.data.validation.duplicates import DuplicateIds
from x2kit.errors import DataError
from x2kit.plugin.sources import Record, Text
from x2kit.plugin.tokenizers import Tokenizer

NO_CODE = "und"
"""Language code of texts without one (ISO 639: undetermined)."""
AREAS = 10_000
"""Number of classes of box areas; the class is the share of the image in 1/10000, rounded down."""
TASK_FIELDS = ("images", "question", "answers", "options", "label", "premise", "detections")
"""Fields that tasks read besides image, video, caption and regions."""
_UNCUT = 10**9
_UNIT = 40  # bits of a record's index in `position`; higher bits hold the number of its unit


class TextLimits(NamedTuple):
    """Maximum words and tokens (special ones included) of a text."""

    max_words: int
    max_tokens: int


@dataclass
class TextCounts:
    """Texts of one stream in one language.

    Attributes:
        lengths: number of texts by tokens before truncation, special ones included; by words without a tokenizer.
        cut: truncated texts.
        unknown: texts that consist of unknown tokens only.
    """

    lengths: Counter[int] = field(default_factory=Counter)
    cut: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        """Number of texts."""
        return self.lengths.total()

    def add(self, other: TextCounts) -> None:
        """Add the counts of other texts."""
        self.lengths += other.lengths
        self.cut += other.cut
        self.unknown += other.unknown


class Statistics:
    """Counts of texts and boxes, which add up over chunks of records.

    Attributes:
        texts: by stream and language.
        areas: boxes by stream and class of area (`AREAS`).
        fields: records by stream that have a field of tasks.
        values: records by stream and field, `answers` or `label`, and value; of several answers the most frequent.
    """

    def __init__(self) -> None:
        self.texts: defaultdict[tuple[str, str], TextCounts] = defaultdict(TextCounts)
        self.areas: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self.fields: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.values: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)

    def add(self, other: Statistics) -> None:
        """Add the counts of other records."""
        for key, counts in other.texts.items():
            self.texts[key].add(counts)
        for stream, areas in other.areas.items():
            self.areas[stream] += areas
        for stream, fields in other.fields.items():
            self.fields[stream] += fields
        for key, values in other.values.items():
            self.values[key] += values

    def count_texts(
        self, stream: str, texts: Iterable[tuple[str, str]], limits: TextLimits, tokenizer: Tokenizer | None
    ) -> None:
        """Count pairs of language and cleaned text, as `captions_of` and `region_texts_of` yield them."""
        by_language: defaultdict[str, list[str]] = defaultdict(list)
        for language, text in texts:
            by_language[language].append(text)
        for language, of_language in by_language.items():
            counts = self.texts[stream, language]
            words = [text.split(" ") for text in of_language]
            over = [len(one) > limits.max_words for one in words]
            if tokenizer is None:
                counts.lengths.update(map(len, words))
                counts.cut += sum(over)
                continue
            encoded = tokenizer.encode(of_language, _UNCUT)
            kept = [" ".join(one[: limits.max_words]) for one in words]
            short = tokenizer.encode(kept, _UNCUT) if any(over) else encoded
            counts.lengths.update(map(len, encoded))
            counts.cut += sum(o or len(ids) > limits.max_tokens for o, ids in zip(over, short, strict=True))
            blank = {tokenizer.special.unk, tokenizer.special.cls, tokenizer.special.sep}
            counts.unknown += sum(blank.issuperset(ids) for ids in encoded)

    def count_boxes(self, stream: str, record: Record, size: tuple[int, int]) -> None:
        """Count the boxes of a record; `size` is width and height of its image."""
        for region in record.get("regions") or []:
            _, _, width, height = region["bbox"]
            self.areas[stream][int(AREAS * width * height / (size[0] * size[1]))] += 1

    def count_fields(self, stream: str, record: Record) -> None:
        """Count the fields of tasks that a record has, and its label and most frequent answer."""
        self.fields[stream].update(name for name in TASK_FIELDS if name in record)
        if answers := record.get("answers"):
            counts: Counter[str] = Counter()
            counts.update(answers)  # a list counts each answer, a mapping adds its weights
            self.values[stream, "answers"][max(counts, key=counts.__getitem__)] += 1
        if "label" in record:
            self.values[stream, "label"][str(record["label"])] += 1


def quantile(counts: Counter[int], share: float) -> int:
    """Return the smallest value such that `share` of all counts is at or below it."""
    rank, passed = share * counts.total(), 0
    for value in sorted(counts):
        passed += counts[value]
        if passed >= rank:
            return value
    return 0


def captions_of(record: Record, config: StreamConfig | None) -> Iterator[tuple[str, str]]:
    """Yield language and cleaned text of a record's captions or parallel texts."""
    parallel = config is not None and config.layout == "parallel"
    texts = record.get("texts") if parallel else record.get("caption")
    yield from _cleaned(texts or [], config)


def region_texts_of(record: Record, config: StreamConfig | None) -> Iterator[tuple[str, str]]:
    """Yield language and cleaned text of every region."""
    if config is None or config.layout == "boxes":
        for region in record.get("regions") or []:
            yield from _cleaned(region["caption"], config)


def questions_of(record: Record, config: StreamConfig | None) -> Iterator[tuple[str, str]]:
    """Yield language and cleaned text of the question and of each option; empty ones are left out."""
    for text in (record.get("question") or [], *(record.get("options") or [])):
        for code, one in texts_of_languages(text, None if config is None else config.languages):
            with suppress(DataError):
                yield code or NO_CODE, clean(one)


def texts_of(record: Record, config: StreamConfig | None) -> list[tuple[str, str]]:
    """Return language and cleaned text of every text whose length counts."""
    return [
        *captions_of(record, config),
        *region_texts_of(record, config),
        *questions_of(record, config),
    ]


def _cleaned(text: Text, config: StreamConfig | None) -> Iterator[tuple[str, str]]:
    text_only = config is not None and config.layout == "texts"
    for code, one in texts_of_languages(text, None if config is None else config.languages):
        yield code or NO_CODE, text_only_caption(one, _UNCUT, 1) if text_only else clean(one)


def image_hash(image: Any) -> str | None:
    """Hash the file or pixels of an image; None for other types."""
    if isinstance(image, str | Path):
        content, head = read(str(image)), b"file"
    elif isinstance(image, bytes | bytearray | memoryview):
        content, head = bytes(image), b"file"
    elif isinstance(image, Image.Image):
        content, head = image.tobytes(), f"{image.mode} {image.size}".encode()
    elif isinstance(image, np.ndarray):
        content, head = image.tobytes(), f"{image.dtype} {image.shape}".encode()
    else:
        return None
    return blake2b(content, digest_size=16, person=head[:16].ljust(16)).hexdigest()


def position(unit: int, index: int) -> int:
    """Encode unit and index of a record as one number, for `hash_ids`."""
    return unit << _UNIT | index


class SharedContents(NamedTuple):
    """Numbers of records with equal contents.

    Attributes:
        within: by unit, records whose content another record of the unit has.
        between: by pair of units, records of the second whose content the first has.
    """

    within: Counter[int]
    between: Counter[tuple[int, int]]


def shared_contents(contents: DuplicateIds) -> SharedContents:
    """Count equal contents within and between units; `contents` was filled with `position` numbers."""
    shared = SharedContents(Counter(), Counter())
    for group in contents.groups():
        units = Counter((group >> _UNIT).tolist())
        shared.within.update({unit: count for unit, count in units.items() if count > 1})
        shared.between.update(
            {(first, second): units[second] for first, second in combinations(sorted(units), 2)}
        )
    return shared
