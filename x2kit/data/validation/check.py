"""Draw every record of streams and evaluation once, and check all of its texts and regions. Imports torch.

Training draws one text and some regions of a record at a time, so faults in the others would show in a later epoch.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from numpy.random import Generator

from x2kit.data.config import StreamConfig
from x2kit.data.index.chain import Readable, flat_sources
from x2kit.data.media.images import ImageLike
from x2kit.data.pipeline.batch import BrokenRecord
from x2kit.data.pipeline.order import StreamOrder
from x2kit.data.pipeline.samples import (
    field,
    regions_of,
)
from x2kit.data.pipeline.streams import open_sources, place_of
from x2kit.data.pipeline.task_rows import draw_pretraining, draw_row
from x2kit.data.pipeline.workers import worker_results
from x2kit.data.storage.limits import LimitsConfig
from x2kit.data.transforms.text import clean, clean_text_alone, texts_of_languages
from x2kit.data.transforms.view import View
from x2kit.data.validation.bad_records import SAMPLES, BadRecords
from x2kit.data.validation.complete import (
    images_of,
    require_complete,
    require_measurable,
    require_task_fields,
)
from x2kit.data.validation.duplicates import DuplicateIds, IdHashes, hash_ids
from x2kit.data.validation.statistics import (
    SharedContents,
    Statistics,
    TextLimits,
    captions_of,
    image_hash,
    position,
    region_texts_of,
    shared_contents,
    texts_of,
)
from x2kit.errors import DataError, Reason
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import SourceConfig, TaskConfig
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Record
from x2kit.plugin.tasks import Task
from x2kit.plugin.tokenizers import Tokenizer

CHUNK = 32
"""Records that a worker checks at a time."""
EVALUATION = "evaluation"
"""Stream name of the records of an evaluation."""


def draw_record(
    record: Record,
    config: StreamConfig | None,
    spec: ImageSpec,
    rng: Generator,
    keep_shape: bool = False,
    tasks: Sequence[Task] = (),
) -> View | None:
    """Draw a sample of a record, and clean all texts of the stream's languages.

    Args:
        record: of any form.
        config: of the stream; None for the records of an evaluation.
        spec: input of the vision encoder.
        rng: the sample's generator.
        keep_shape: as for `draw_pretraining`.
        tasks: the one of the stream, or those that measure the record.
    Returns: the view of the image, for streams that share it; None if there is none.
    Raises: DataError if the record is broken.
    """
    if config is None:
        require_complete(record, spec)
        for task in tasks:
            require_measurable(task, record, spec)
        return None
    (task,) = tasks
    view = None
    if config.layout is None:
        draw_row(task, record, config, spec, rng)
        require_task_fields(record, None)
    else:
        view = draw_pretraining(task, record, config, spec, rng, keep_shape=keep_shape).view
    clean_text: Callable[[str, int], str] = clean_text_alone if config.layout == "texts" else clean
    texts: Any = dict(record).get("texts" if config.layout == "parallel" else "caption", [])
    for _, text in texts_of_languages(texts, config.languages):
        clean_text(text, config.max_words)
    if config.layout == "boxes":
        _require_regions(record, config)
    return view


def draw_shared_record(
    record: Record, config: StreamConfig, spec: ImageSpec, task: Task, view: View, rng: Generator
) -> None:
    """Draw the regions of an image that another stream has drawn. Raises DataError if one is broken."""
    draw_pretraining(task, record, config, spec, rng, view)
    _require_regions(record, config)


def _require_regions(record: Record, config: StreamConfig) -> None:
    for region in regions_of(record) if "regions" in record else []:
        for _, text in texts_of_languages(field(region, "caption"), config.languages):
            clean(text, config.max_words)


class CheckResult(NamedTuple):
    """Result of a chunk of records.

    Attributes:
        drawn: number of records by stream.
        faults: broken records.
        unit: index of the records' unit.
        statistics: of the valid records.
        ids: of the readable records; None if an earlier unit has the same source.
        captions, images: contents of the valid records; None as `ids`.
    """

    drawn: dict[str, int]
    faults: list[BrokenRecord]
    unit: int
    statistics: Statistics
    ids: IdHashes | None = None
    captions: IdHashes | None = None
    images: IdHashes | None = None


class Measured(NamedTuple):
    """Records of an evaluation.

    Attributes:
        source: of the records.
        limits: of their texts.
        tasks: that measure them row by row.
    """

    source: SourceConfig
    limits: TextLimits
    tasks: tuple[TaskConfig, ...] = ()


class Unit(NamedTuple):
    """Records that are read once for all streams that use them.

    Attributes:
        name: of the stream, or `EVALUATION`.
        source: of the records.
        config: of the stream; None for the evaluation.
        sharers: region streams that use its images.
        has_ids: whether no earlier unit has the same source.
        limits: of texts in the evaluation; streams have theirs in `config`.
        tasks: that draw rows from the records.
    """

    name: str
    source: SourceConfig
    config: StreamConfig | None
    sharers: dict[str, StreamConfig]
    has_ids: bool
    limits: TextLimits | None = None
    tasks: tuple[TaskConfig, ...] = ()

    def text_limits(self, stream: str) -> TextLimits:
        """Return the limits of texts of this unit's stream or of a sharer."""
        config = self.sharers.get(stream, self.config)
        if config is not None:
            return TextLimits(config.max_words, config.max_tokens)
        assert self.limits is not None  # units without a stream have limits
        return self.limits


def check_units(streams: Mapping[str, StreamConfig], evaluation: Mapping[str, Measured]) -> list[Unit]:
    """List the units of a check: every stream with those that share its images, then the evaluation.

    Args:
        streams: of the recipe, by name.
        evaluation: records by name.
    """
    units: list[Unit] = []
    for name, config in streams.items():
        if config.image_stream is None:
            sharers = {other: one for other, one in streams.items() if one.image_stream == name}
            is_new = config.source not in _sources(units)
            units.append(Unit(name, config.source, config, sharers, is_new, tasks=(config.task,)))
    for name, one in evaluation.items():
        is_new = one.source not in _sources(units)
        units.append(Unit(name, one.source, None, {}, is_new, one.limits, one.tasks))
    return units


def _sources(units: Sequence[Unit]) -> list[SourceConfig]:
    return [unit.source for unit in units]


class Check:
    """Check records, in worker processes if asked, and count what is found.

    Attributes:
        bad: broken records by stream and reason.
        drawn: number of records by stream.
        total: number of records to check; each counts once, also if several streams use it.
        done: number of records checked.
        complete: whether all records were checked and their ids compared.
        statistics: of the valid records.
        captions, images: contents that several records have, by index of the unit; known when complete.

    Args:
        units: records to check.
        spec: input of the vision encoder.
        seed: of the run; each record is drawn as in epoch 0.
        limit: number of records of each unit, evenly spread; None for all. Duplicate ids are found only among these.
        workers: number of processes; 0 checks in this one.
        limits: of the decoded size of a record.
        tokenizer: of the text encoder; None counts words only.
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
        """Check all records; yields `done` after each chunk, and may be stopped at any time."""
        with TemporaryDirectory(prefix="x2kit-check-") as folder, ExitStack() as opened:

            def duplicates(name: str) -> DuplicateIds:
                return opened.enter_context(DuplicateIds(Path(folder, name)))

            ids = {number: duplicates(str(number)) for number, unit in enumerate(self.units) if unit.has_ids}
            captions, images = duplicates("captions"), duplicates("images")
            for result in self._results():
                self.bad.count(sum(result.drawn.values()), result.faults)
                for name, count in result.drawn.items():
                    self.drawn[name] += count
                self.statistics.add(result.statistics)
                if result.ids is not None and result.captions is not None and result.images is not None:
                    ids[result.unit].add(result.ids)
                    captions.add(result.captions)
                    images.add(result.images)
                self.done += result.drawn[self.units[result.unit].name]
                yield self.done
            for number, of_unit in ids.items():
                self._count_duplicates(number, of_unit)
            self.captions, self.images = shared_contents(captions), shared_contents(images)
        self.complete = True

    def _count_duplicates(self, number: int, ids: DuplicateIds) -> None:
        # The first ones of the source are kept, in whatever order they are found.
        kept: list[tuple[int, int]] = []
        for pair in ids.pairs():
            self.bad.counts[self.units[number].name, Reason.DUPLICATE_ID] += 1
            kept.append(pair)
            if len(kept) > 2 * SAMPLES:
                kept = sorted(kept)[:SAMPLES]
        for later, first in sorted(kept)[:SAMPLES]:
            self.bad.keep(self._checker.duplicate(number, first, later))

    def _results(self) -> Iterator[CheckResult]:
        chunks = [
            (number, start) for number, count in enumerate(self._counts) for start in range(0, count, CHUNK)
        ]
        if self._workers == 0:
            yield from map(self._checker.check, chunks)
            return
        unopened = replace(self._checker)
        with worker_results(unopened.check, chunks, self._workers) as results:
            yield from results


_Texts = defaultdict[str, list[tuple[str, str]]]
"""Pairs of language and text by stream."""


class _Opened(NamedTuple):
    source: Readable
    orders: dict[str, StreamOrder]
    tasks: list[Task]
    sharers: dict[str, Task]


@dataclass(eq=False)
class _Checker:
    """Check chunks of records. Each process opens the sources for itself, at its first chunk."""

    units: Sequence[Unit]
    spec: ImageSpec
    seed: int
    limit: int | None
    size_limits: LimitsConfig
    tokenizer: Tokenizer | None

    def count(self, unit: int) -> int:
        """Return the number of records of a unit to check."""
        size = len(self._opened[unit].source)
        return size if self.limit is None else min(size, self.limit)

    def check(self, chunk: tuple[int, int]) -> CheckResult:
        """Check up to `CHUNK` records of a unit, from the given one on."""
        number, start = chunk
        unit, source = self.units[number], self._opened[number].source
        result = CheckResult(dict.fromkeys((unit.name, *unit.sharers), 0), [], number, Statistics())
        ids: list[tuple[str, int]] = []
        captions: list[tuple[str, int]] = []
        images: list[tuple[str, int]] = []
        texts = _Texts(list)
        count = self.count(number)
        for step in range(start, min(start + CHUNK, count)):
            index = step * len(source) // count
            record: Record = {}
            result.drawn[unit.name] += 1
            try:
                with component_faults(unit.source):
                    record = source[index]
                self._draw(number, index, record, result, texts)
                if unit.has_ids:
                    key = position(number, index)
                    captions += [
                        (text, key) for text in {f"{c} {t}" for c, t in captions_of(record, unit.config)}
                    ]
                    hashes = {
                        content for one in images_of(record) if (content := image_hash(one)) is not None
                    }
                    images += [(content, key) for content in hashes]
            except DataError as error:
                result.faults.append(self._broken(unit.name, number, index, record, error))
            if "id" in record:
                ids.append((str(record["id"]), index))
        for name, of_stream in texts.items():
            result.statistics.count_texts(name, of_stream, unit.text_limits(name), self.tokenizer)
        if not unit.has_ids:
            return result
        return result._replace(ids=hash_ids(ids), captions=hash_ids(captions), images=hash_ids(images))

    def duplicate(self, number: int, first: int, later: int) -> BrokenRecord:
        """Describe a record that has the id of an earlier one."""
        source = self._opened[number].source
        name = source[later].get("id", f"#{later}")
        place = place_of(source, first)
        where = f"record {first}" if place is None else f"{place.file}:{place.line or place.offset}"
        message = f"duplicate id {name!r}, first at {where}; give each record its own id"
        # Kept by its position, since all duplicates of an id have the same id.
        return BrokenRecord(
            self.units[number].name,
            f"{name} (#{later})",
            Reason.DUPLICATE_ID,
            message,
            place_of(source, later),
        )

    def _draw(self, number: int, index: int, record: Record, result: CheckResult, texts: _Texts) -> None:
        unit, opened = self.units[number], self._opened[number]
        view = draw_record(
            record,
            unit.config,
            self.spec,
            opened.orders[unit.name].of_sample(0, index),
            bool(unit.sharers),
            opened.tasks,
        )
        texts[unit.name] += texts_of(record, unit.config)
        result.statistics.count_fields(unit.name, record)
        if (unit.config is None or unit.config.layout == "boxes") and record.get("image") is not None:
            size = ImageLike(record["image"], self.spec.channels, self.spec.value_range).size
            result.statistics.count_boxes(unit.name, record, size)
        for name, config in unit.sharers.items():
            if view is None:
                continue
            result.drawn[name] += 1
            try:
                draw_shared_record(
                    record,
                    config,
                    self.spec,
                    opened.sharers[name],
                    view,
                    opened.orders[name].of_sample(0, index),
                )
            except DataError as error:
                result.faults.append(self._broken(name, number, index, record, error))
                continue
            texts[name] += region_texts_of(record, config)
            result.statistics.count_boxes(name, record, view.size)

    def _broken(self, name: str, number: int, index: int, record: Record, error: DataError) -> BrokenRecord:
        place = place_of(self._opened[number].source, index)
        return BrokenRecord.from_error(name, str(record.get("id", f"#{index}")), error, place)

    @cached_property
    def _opened(self) -> list[_Opened]:
        self.size_limits.apply()
        opened = []
        for unit, source in zip(self.units, open_sources(_sources(self.units)), strict=True):
            readable = flat_sources(source)
            names = (unit.name, *unit.sharers)
            orders = {name: StreamOrder(self.seed, name, len(readable)) for name in names}
            tasks = list(map(_built, unit.tasks))
            sharers = {name: _built(config.task) for name, config in unit.sharers.items()}
            opened.append(_Opened(readable, orders, tasks, sharers))
        return opened


def _built(config: TaskConfig) -> Task:
    with component_faults(config):
        return config.build()
