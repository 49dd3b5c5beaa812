"""Count lengths, cut texts, box sizes and equal contents of the records that a check reads. Imports no torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from x2kit.data.config import StreamConfig
from x2kit.data.storage.files import read
from x2kit.data.transforms.text import clean, text_only_caption
from x2kit.data.validation.duplicates import DuplicateIds
from x2kit.plugin.sources import Record, Text
from x2kit.plugin.tokenizers import Tokenizer

NO_CODE = "und"
"""Language of texts that are written without one (ISO 639: undetermined)."""
AREAS = 10_000
"""Classes of box areas: the area as a share of the image, rounded down to 1/10000."""
_UNCUT = 10**9
_UNIT = 40  # bits of a record's position; the number of its unit is above


class TextLimits(NamedTuple):
    """Where texts are cut: words, and tokens with the special ones."""

    max_words: int
    max_tokens: int


class TextCounts:
    """Texts of one stream in one language.

    Attributes:
        lengths: texts by their number of tokens before cutting, special ones included; words without a tokenizer.
        cut: texts that lose words or tokens.
        unknown: texts of which the tokenizer knows nothing.
    """

    def __init__(self) -> None:
        self.lengths: Counter[int] = Counter()
        self.cut = self.unknown = 0

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
    """Counts that add up over chunks of records.

    Attributes:
        texts: by stream and language.
        areas: boxes by stream and class of area, see `AREAS`.
    """

    def __init__(self) -> None:
        self.texts: defaultdict[tuple[str, str], TextCounts] = defaultdict(TextCounts)
        self.areas: defaultdict[str, Counter[int]] = defaultdict(Counter)

    def add(self, other: Statistics) -> None:
        """Add the counts of other records."""
        for key, counts in other.texts.items():
            self.texts[key].add(counts)
        for stream, areas in other.areas.items():
            self.areas[stream] += areas

    def count_texts(
        self, stream: str, texts: Iterable[tuple[str, str]], limits: TextLimits, tokenizer: Tokenizer | None
    ) -> None:
        """Count texts: pairs of language and text as `cleaned_texts` gives them."""
        by_language: defaultdict[str, list[str]] = defaultdict(list)
        for language, text in texts:
            by_language[language].append(text)
        for language, found in by_language.items():
            counts = self.texts[stream, language]
            words = [text.split(" ") for text in found]
            over = [len(one) > limits.max_words for one in words]
            if tokenizer is None:
                counts.lengths.update(map(len, words))
                counts.cut += sum(over)
                continue
            encoded = tokenizer.encode(found, _UNCUT)
            kept = [" ".join(one[: limits.max_words]) for one in words]
            short = tokenizer.encode(kept, _UNCUT) if any(over) else encoded
            counts.lengths.update(map(len, encoded))
            counts.cut += sum(o or len(ids) > limits.max_tokens for o, ids in zip(over, short, strict=True))
            unk = tokenizer.special.unk
            counts.unknown += sum(all(one == unk for one in ids[1:-1]) for ids in encoded)

    def count_boxes(self, stream: str, record: Record, size: tuple[int, int]) -> None:
        """Count the boxes of a record whose image has this size."""
        for region in record.get("regions") or []:
            _, _, width, height = region["bbox"]
            self.areas[stream][int(AREAS * width * height / (size[0] * size[1]))] += 1


def quantile(counts: Counter[int], share: float) -> int:
    """The value below or at which this share of all counted ones lies."""
    rank, passed = share * counts.total(), 0
    for value in sorted(counts):
        passed += counts[value]
        if passed >= rank:
            return value
    return 0


def captions_of(record: Record, config: StreamConfig | None) -> Iterator[tuple[str, str]]:
    """Language and cleaned text of what is said of the whole record: captions, or parallel texts."""
    parallel = config is not None and config.kind == "parallel-text"
    texts = record.get("texts") if parallel else record.get("caption")
    yield from _cleaned(texts or [], config)


def region_texts_of(record: Record, config: StreamConfig | None) -> Iterator[tuple[str, str]]:
    """Language and cleaned text of every region."""
    if config is None or config.kind == "region-text":
        for region in record.get("regions") or []:
            yield from _cleaned(region["caption"], config)


def _cleaned(text: Text, config: StreamConfig | None) -> Iterator[tuple[str, str]]:
    allowed = None if config is None else config.languages
    plain = config is not None and config.kind == "text"
    for choice in text if isinstance(text, list) else [text]:
        for code, one in (choice if isinstance(choice, dict) else {NO_CODE: choice}).items():
            if code == NO_CODE or allowed is None or code in allowed:
                yield code, text_only_caption(one, _UNCUT, 1) if plain else clean(one)


def image_hash(image: Any) -> str | None:
    """A hash that equal files, or equal images in memory, share; None for what it cannot tell."""
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
    """One number for a record of a unit, for `hashed`."""
    return unit << _UNIT | index


class SharedContents(NamedTuple):
    """Contents that several records have.

    Attributes:
        within: contents of each unit that another record of it has too.
        between: contents of the second unit that the first has too.
    """

    within: Counter[int]
    between: Counter[tuple[int, int]]


def shared_contents(contents: DuplicateIds) -> SharedContents:
    """Count equal contents, taken under `position`, within and between units."""
    found = SharedContents(Counter(), Counter())
    for group in contents.groups():
        units = Counter((group >> _UNIT).tolist())
        found.within.update({unit: count for unit, count in units.items() if count > 1})
        ordered: Sequence[int] = sorted(units)
        for place, second in enumerate(ordered):
            found.between.update({(first, second): units[second] for first in ordered[:place]})
    return found
