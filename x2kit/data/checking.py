"""All records of all streams read and drawn once, to find the broken ones before a run does. Imports torch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from torch.utils.data import Dataset

from x2kit.data.batch import Broken
from x2kit.data.config import StreamConfig
from x2kit.data.drawing_once import draw_once, draw_shared_once
from x2kit.data.duplicates import DuplicateIds, Hashed, hashed
from x2kit.data.each_once import Readable, each_once
from x2kit.data.faults import SAMPLES, BadRecords, broken
from x2kit.data.limits import LimitsConfig
from x2kit.data.order import StreamOrder
from x2kit.data.pictures import Picture
from x2kit.data.statistics import (
    Limits,
    Shared,
    Statistics,
    captions_of,
    picture_hash,
    position,
    region_texts_of,
    shared_contents,
)
from x2kit.data.streams import place_of
from x2kit.data.workers import worker_results
from x2kit.errors import DataError, X2KitError
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import SourceConfig
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.file_modules import WithFilePlugins
from x2kit.plugin.sources import Record
from x2kit.plugin.tokenizers import Tokenizer
from x2kit.reasons import Reason

CHUNK = 32
"""Records that a process checks at once."""
EVALUATION = "evaluation"
"""What the records of the evaluation are called among the streams."""


class Found(NamedTuple):
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
    faults: list[Broken]
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
        sharers: streams of regions that take its pictures.
        has_ids: whether no unit before has the same source.
        limits: where the evaluation cuts its texts; streams say it in `config`.
    """

    name: str
    source: SourceConfig
    config: StreamConfig | None
    sharers: dict[str, StreamConfig]
    has_ids: bool
    limits: Limits | None = None


def units_of(
    streams: Mapping[str, StreamConfig], evaluation: Mapping[str, tuple[SourceConfig, Limits]]
) -> list[Unit]:
    """What there is to check: every stream with those that share its pictures, then the evaluation's records.

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
        self.captions = self.images = Shared(Counter(), Counter())
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

    def _found(self) -> Iterator[Found]:
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

    def check(self, chunk: tuple[int, int]) -> Found:
        """The records of a unit from a number on, at most `CHUNK`."""
        number, start = chunk
        unit, source = self.units[number], self._open[number].source
        found = Found(dict.fromkeys((unit.name, *unit.sharers), 0), [], number, Statistics())
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
                    if (content := picture_hash(record.get("image"))) is not None:
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
    def _limits(unit: Unit, name: str) -> Limits:
        config = unit.sharers.get(name, unit.config)
        if config is not None:
            return Limits(config.max_words, config.max_tokens)
        assert unit.limits is not None  # units without a stream have them
        return unit.limits

    def duplicate(self, number: int, first: int, later: int) -> Broken:
        """A record whose id an earlier one has."""
        source = self._open[number].source
        name = source[later].get("id", f"#{later}")
        place = place_of(source, first)
        where = f"record {first}" if place is None else f"{place.file}:{place.line or place.offset}"
        message = f"the id {name!r} is that of {where} too; give each record its own"
        # Kept under its position: under its id only one of several would be.
        return Broken(
            self.units[number].name,
            f"{name} (#{later})",
            Reason.DUPLICATE_ID,
            message,
            place_of(source, later),
        )

    def _draw(self, number: int, index: int, record: Record, found: Found, texts: _Texts) -> None:
        unit, opened = self.units[number], self._open[number]
        view = draw_once(
            record, unit.config, self._spec, opened.orders[unit.name].of_sample(0, index), bool(unit.sharers)
        )
        texts[unit.name] += [*captions_of(record, unit.config), *region_texts_of(record, unit.config)]
        if (unit.config is None or unit.config.kind == "region-text") and record.get("image") is not None:
            size = Picture(record["image"], self._spec.channels, self._spec.value_range).size
            found.statistics.count_boxes(unit.name, record, size)
        for name, config in unit.sharers.items():
            if view is None:
                continue
            found.drawn[name] += 1
            try:
                draw_shared_once(record, config, view, opened.orders[name].of_sample(0, index))
            except DataError as error:
                found.faults.append(self._broken(name, number, index, record, error))
                continue
            texts[name] += region_texts_of(record, config)
            found.statistics.count_boxes(name, record, view.size)

    def _broken(self, name: str, number: int, index: int, record: Record, error: DataError) -> Broken:
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
                    source = each_once(unit.source.open())
                sources.append((unit.source, source))
            names = (unit.name, *unit.sharers)
            opened.append(_Open(source, {name: StreamOrder(self._seed, name, len(source)) for name in names}))
        return opened


class _Chunks(WithFilePlugins, Dataset[Found | str]):
    def __init__(self, checker: _Checker) -> None:
        self._checker = checker

    def __getitem__(self, chunk: tuple[int, int]) -> Found | str:
        try:
            return self._checker.check(chunk)
        except X2KitError as error:  # the loader would bury its message in a traceback
            return str(error)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
