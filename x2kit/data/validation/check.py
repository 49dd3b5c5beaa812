"""A record drawn as a stream would draw it, and all of its texts looked at, to see whether it is sound. Imports torch.

A visit in training draws one text and some regions. A fault in the others would show in a later epoch, so all are
looked at here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from numpy.random import Generator
from torch.utils.data import Dataset

from x2kit.data.config import StreamConfig
from x2kit.data.index.chain import Readable, flat_sources
from x2kit.data.media.images import ImageLike
from x2kit.data.pipeline.batch import BrokenRecord
from x2kit.data.pipeline.order import StreamOrder
from x2kit.data.pipeline.samples import (
    field,
    image_sample,
    pair_sample,
    region_sample,
    region_texts,
    text_sample,
)
from x2kit.data.pipeline.streams import place_of
from x2kit.data.pipeline.video_samples import read_video, video_sample
from x2kit.data.pipeline.workers import worker_results
from x2kit.data.storage.limits import LimitsConfig
from x2kit.data.transforms.boxes import read_boxes
from x2kit.data.transforms.text import all_texts, clean, clean_text_alone
from x2kit.data.transforms.view import View
from x2kit.data.validation.bad_records import SAMPLES, BadRecords, broken
from x2kit.data.validation.duplicates import DuplicateIds, Hashed, hashed
from x2kit.data.validation.statistics import (
    SharedContents,
    Statistics,
    TextLimits,
    captions_of,
    image_hash,
    position,
    region_texts_of,
    shared_contents,
)
from x2kit.errors import DataError, Reason, X2KitError
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import SourceConfig
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.loading.file_modules import WithFilePlugins
from x2kit.plugin.sources import Record, Text
from x2kit.plugin.tokenizers import Tokenizer


def draw_record(
    record: Record, config: StreamConfig | None, spec: ImageSpec, rng: Generator, keep_shape: bool = False
) -> View | None:
    """Draw a record.

    Args:
        record: of any kind.
        config: of the stream; None for the records of an evaluation.
        spec: what the vision encoder wants.
        rng: the sample's own generator.
        keep_shape: as for `image_sample`.
    Returns: what an image-text stream sees of the image, None for other kinds.
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


def draw_shared_record(record: Record, config: StreamConfig, view: View, rng: Generator) -> None:
    """Draw the regions of an image that an image-text stream has drawn. Raises DataError if one is broken."""
    region_texts(record, config, view, rng)
    _require_regions(record, config)


def _require_regions(record: Record, config: StreamConfig) -> None:
    for region in record["regions"]:
        for text in _of_languages(field(region, "caption"), config.languages):
            clean(text, config.max_words)


def _require_measurable(record: Record, spec: ImageSpec) -> None:
    """What is there must be sound: an evaluation stops at a broken record, for to skip it would change the result."""
    if "video" in record:
        read_video(record["video"], 1, spec)
        size = None
    else:
        image = ImageLike(field(record, "image"), spec.channels, spec.value_range)
        image.load()
        size = image.size
    for text in all_texts(record.get("caption") or []):
        clean(text)
    regions = record.get("regions") or []
    if regions and size is not None:
        read_boxes([field(region, "bbox") for region in regions], size)
    for region in regions:
        for text in all_texts(field(region, "caption")):
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


CHUNK = 32
"""Records that a process checks at once."""
EVALUATION = "evaluation"
"""What the records of the evaluation are called among the streams."""


class CheckResult(NamedTuple):
    """What some records were like.

    Attributes:
        drawn: how many records each stream drew.
        faults: the broken ones.
        unit: which of the units they are of.
        statistics: of those that are not broken.
        ids: of those that could be read; None where another unit has them already.
        captions, images: their contents, for the same units.
    """

    drawn: dict[str, int]
    faults: list[BrokenRecord]
    unit: int
    statistics: Statistics
    ids: Hashed | None = None
    captions: Hashed | None = None
    images: Hashed | None = None


class Unit(NamedTuple):
    """Records that are read once for all that draws from them.

    Attributes:
        name: of the stream, or `EVALUATION`.
        source: its records.
        config: of the stream; None for those of the evaluation.
        sharers: streams of regions that take its images.
        has_ids: whether no unit before has the same source.
        limits: where the evaluation cuts its texts; streams say it in `config`.
    """

    name: str
    source: SourceConfig
    config: StreamConfig | None
    sharers: dict[str, StreamConfig]
    has_ids: bool
    limits: TextLimits | None = None


def check_units(
    streams: Mapping[str, StreamConfig], evaluation: Mapping[str, tuple[SourceConfig, TextLimits]]
) -> list[Unit]:
    """What there is to check: every stream with those that share its images, then the evaluation's records.

    Args:
        evaluation: sources by name, with the limits of their texts.
    """
    units: list[Unit] = []
    for name, config in streams.items():
        if config.images_from is None:
            sharers = {other: one for other, one in streams.items() if one.images_from == name}
            units.append(Unit(name, config.source, config, sharers, config.source not in _sources(units)))
    for name, (source, limits) in evaluation.items():
        units.append(Unit(name, source, None, {}, source not in _sources(units), limits))
    return units


def _sources(units: Sequence[Unit]) -> list[SourceConfig]:
    return [unit.source for unit in units]


class Check:
    """Goes through the records in processes, and counts what it finds.

    Attributes:
        bad: the broken records so far, by stream and reason.
        drawn: the records so far, by stream.
        total: records that there are to check, each counted once however many streams draw it.
        done: those that were.
        complete: whether these are all, and their ids were compared.
        statistics: of the sound records so far.
        captions, images: contents that several records have, by number of the unit; known when all is checked.

    Args:
        units: what is checked.
        spec: what the vision encoder wants.
        seed: of the run; each record is drawn as in its first epoch.
        limit: records of each unit, evenly spread; None for all. Duplicate ids are found among these only.
        workers: processes; 0 checks in this one.
        limits: of what a record may unpack to.
        tokenizer: of the text encoder; None counts words alone.
    Raises: DataError if a source cannot be opened or has no records.
    """

    def __init__(
        self,
        units: Sequence[Unit],
        spec: ImageSpec,
        seed: int,
        limit: int | None = None,
        workers: int = 0,
        limits: LimitsConfig = LimitsConfig(),  # noqa: B008  # frozen
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.units = units
        self._checker = _Checker(units, spec, seed, limit, limits, tokenizer)
        self._workers = workers
        self.bad = BadRecords()
        self.statistics = Statistics()
        self.captions = self.images = SharedContents(Counter(), Counter())
        self.drawn = {name: 0 for unit in units for name in (unit.name, *unit.sharers)}
        self._counts = [self._checker.count(number) for number in range(len(units))]
        self.total, self.done, self.complete = sum(self._counts), 0, False

    def run(self) -> Iterator[int]:
        """Check all; gives how many are done as they are, and may be left off at any time."""
        with TemporaryDirectory(prefix="x2kit-check-") as folder, ExitStack() as opened:
            duplicates = {
                number: opened.enter_context(DuplicateIds(_made(Path(folder) / str(number))))
                for number, unit in enumerate(self._checker.units)
                if unit.has_ids
            }
            captions = opened.enter_context(DuplicateIds(_made(Path(folder) / "captions")))
            images = opened.enter_context(DuplicateIds(_made(Path(folder) / "images")))
            for found in self._found():
                self.bad.count(sum(found.drawn.values()), found.faults)
                for name, count in found.drawn.items():
                    self.drawn[name] += count
                self.statistics.add(found.statistics)
                if found.ids is not None:
                    duplicates[found.unit].add(found.ids)
                if found.captions is not None and found.images is not None:
                    captions.add(found.captions)
                    images.add(found.images)
                self.done += found.drawn[self._checker.units[found.unit].name]
                yield self.done
            for number, ids in duplicates.items():
                self._count_duplicates(number, ids)
            self.captions, self.images = shared_contents(captions), shared_contents(images)
        self.complete = True

    def _count_duplicates(self, number: int, ids: DuplicateIds) -> None:
        counts = self.bad.counts
        name = self._checker.units[number].name
        # The first ones of the source are kept, whatever the order in which they are found.
        kept: list[tuple[int, int]] = []
        for pair in ids.found():
            counts[name, Reason.DUPLICATE_ID] += 1
            kept.append(pair)
            if len(kept) > 2 * SAMPLES:
                kept = sorted(kept)[:SAMPLES]
        for later, first in sorted(kept)[:SAMPLES]:
            self.bad.keep(self._checker.duplicate(number, first, later))

    def _found(self) -> Iterator[CheckResult]:
        chunks = [
            (number, start) for number, count in enumerate(self._counts) for start in range(0, count, CHUNK)
        ]
        if self._workers == 0:
            yield from map(self._checker.check, chunks)
            return
        with worker_results(_Chunks(self._checker.fresh()), chunks, self._workers) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, str):
                    raise DataError(outcome)
                yield outcome


class _Texts(defaultdict[str, list[tuple[str, str]]]):
    """Language and text by stream."""

    def __init__(self) -> None:
        super().__init__(list)


class _Open(NamedTuple):
    source: Readable
    orders: dict[str, StreamOrder]


class _Checker:
    """Checks chunks of records; opens its sources when the first is asked for, in each process for itself."""

    def __init__(
        self,
        units: Sequence[Unit],
        spec: ImageSpec,
        seed: int,
        limit: int | None,
        limits: LimitsConfig,
        tokenizer: Tokenizer | None,
    ) -> None:
        self.units, self._tokenizer = units, tokenizer
        self._spec, self._seed, self._limit, self._size_limits = spec, seed, limit, limits

    def fresh(self) -> _Checker:
        """The same with nothing open, for other processes."""
        return _Checker(self.units, self._spec, self._seed, self._limit, self._size_limits, self._tokenizer)

    def count(self, unit: int) -> int:
        """Records of a unit that are checked."""
        size = len(self._open[unit].source)
        return size if self._limit is None else min(size, self._limit)

    def check(self, chunk: tuple[int, int]) -> CheckResult:
        """The records of a unit from a number on, at most `CHUNK`."""
        number, start = chunk
        unit, source = self.units[number], self._open[number].source
        found = CheckResult(dict.fromkeys((unit.name, *unit.sharers), 0), [], number, Statistics())
        ids: list[tuple[str, int]] = []
        captions: list[tuple[str, int]] = []
        images: list[tuple[str, int]] = []
        texts = _Texts()
        count = self.count(number)
        for place in range(start, min(start + CHUNK, count)):
            index = place * len(source) // count
            record: Record = {}
            found.drawn[unit.name] += 1
            try:
                with component_faults(unit.source):
                    record = source[index]
                self._draw(number, index, record, found, texts)
                if unit.has_ids:
                    place = position(number, index)
                    captions += [
                        (name, place) for name in {f"{c} {t}" for c, t in captions_of(record, unit.config)}
                    ]
                    if (content := image_hash(record.get("image"))) is not None:
                        images.append((content, place))
            except DataError as error:
                found.faults.append(self._broken(unit.name, number, index, record, error))
            if "id" in record:
                ids.append((str(record["id"]), index))
        for name, of_stream in texts.items():
            found.statistics.count_texts(name, of_stream, self._limits(unit, name), self._tokenizer)
        if not unit.has_ids:
            return found
        return found._replace(ids=hashed(ids), captions=hashed(captions), images=hashed(images))

    @staticmethod
    def _limits(unit: Unit, name: str) -> TextLimits:
        config = unit.sharers.get(name, unit.config)
        if config is not None:
            return TextLimits(config.max_words, config.max_tokens)
        assert unit.limits is not None  # units without a stream have them
        return unit.limits

    def duplicate(self, number: int, first: int, later: int) -> BrokenRecord:
        """A record whose id an earlier one has."""
        source = self._open[number].source
        name = source[later].get("id", f"#{later}")
        place = place_of(source, first)
        where = f"record {first}" if place is None else f"{place.file}:{place.line or place.offset}"
        message = f"the id {name!r} is that of {where} too; give each record its own"
        # Kept under its position: under its id only one of several would be.
        return BrokenRecord(
            self.units[number].name,
            f"{name} (#{later})",
            Reason.DUPLICATE_ID,
            message,
            place_of(source, later),
        )

    def _draw(self, number: int, index: int, record: Record, found: CheckResult, texts: _Texts) -> None:
        unit, opened = self.units[number], self._open[number]
        view = draw_record(
            record, unit.config, self._spec, opened.orders[unit.name].of_sample(0, index), bool(unit.sharers)
        )
        texts[unit.name] += [*captions_of(record, unit.config), *region_texts_of(record, unit.config)]
        if (unit.config is None or unit.config.kind == "region-text") and record.get("image") is not None:
            size = ImageLike(record["image"], self._spec.channels, self._spec.value_range).size
            found.statistics.count_boxes(unit.name, record, size)
        for name, config in unit.sharers.items():
            if view is None:
                continue
            found.drawn[name] += 1
            try:
                draw_shared_record(record, config, view, opened.orders[name].of_sample(0, index))
            except DataError as error:
                found.faults.append(self._broken(name, number, index, record, error))
                continue
            texts[name] += region_texts_of(record, config)
            found.statistics.count_boxes(name, record, view.size)

    def _broken(self, name: str, number: int, index: int, record: Record, error: DataError) -> BrokenRecord:
        place = place_of(self._open[number].source, index)
        return broken(name, str(record.get("id", f"#{index}")), error, place)

    @cached_property
    def _open(self) -> list[_Open]:
        self._size_limits.apply()
        sources: list[tuple[SourceConfig, Readable]] = []  # equal sources are opened once
        opened = []
        for unit in self.units:
            source = next((source for known, source in sources if known == unit.source), None)
            if source is None:
                with component_faults(unit.source):
                    source = flat_sources(unit.source.open())
                sources.append((unit.source, source))
            names = (unit.name, *unit.sharers)
            opened.append(_Open(source, {name: StreamOrder(self._seed, name, len(source)) for name in names}))
        return opened


class _Chunks(WithFilePlugins, Dataset[CheckResult | str]):
    def __init__(self, checker: _Checker) -> None:
        self._checker = checker

    def __getitem__(self, chunk: tuple[int, int]) -> CheckResult | str:
        try:
            return self._checker.check(chunk)
        except X2KitError as error:  # the loader would bury its message in a traceback
            return str(error)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
