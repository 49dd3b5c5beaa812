"""Draw the rows of a step from the streams. Imports torch.

Broken records are caught here only. Another record takes the position of a broken one, drawn from the position alone,
so that a step is the same whichever process prepares it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from numpy.random import Generator

from x2kit.data.config import StreamConfig
from x2kit.data.features.records import RecordFeatures
from x2kit.data.features.shards import FeatureReader, Visual
from x2kit.data.pipeline.batch import BrokenRecord, RegionImages
from x2kit.data.pipeline.order import ALL, Share, Slot, StreamOrder
from x2kit.data.pipeline.samples import PairSample, RegionTexts
from x2kit.data.pipeline.task_rows import DrawnTask, PretrainingRow, draw_pretraining, draw_row
from x2kit.data.transforms.boxes import WHOLE
from x2kit.errors import DataError
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import SourceConfig
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Located, Place, Record, Source, index_in
from x2kit.plugin.tasks import TaskRow
from x2kit.plugin.tokenizers import Tokenizer

T = TypeVar("T")
Make: TypeAlias = Callable[[Record, Generator, RecordFeatures | None], T]
"""Draws a sample from a record, its generator and its cached features."""
MAX_ATTEMPTS = 100
"""Records tried for one position before the stream stops with an error."""


class Visit(NamedTuple):
    """A record that was read: its slot (that of the replacement, if it replaces another) and id."""

    slot: Slot
    record: str


class DrawnPairs(NamedTuple):
    """Rows with images before collation; `images` are indices into the step's images, `counts` is for regions."""

    images: list[int]
    texts: list[str]
    records: list[str]
    regions: RegionTexts | None = None
    counts: RegionImages | None = None


class DrawnParallel(NamedTuple):
    """Pairs of texts before collation."""

    pairs: list[PairSample]
    records: list[str]


class DrawnTexts(NamedTuple):
    """Texts without images before collation."""

    texts: list[str]
    records: list[str]


Drawn: TypeAlias = DrawnPairs | DrawnParallel | DrawnTexts | DrawnTask


class Stream:
    """A stream with its opened source and its order.

    Args:
        name: in the recipe.
        config: its settings.
        source: its records.
        seed: of the run.
        share: of each step's records, for one of several ranks.
        features: cached of its images, read in place of pixels.
    """

    def __init__(
        self,
        name: str,
        config: StreamConfig,
        source: Source,
        seed: int,
        share: Share = ALL,
        features: FeatureReader | None = None,
    ) -> None:
        self.name = name
        self.share = share
        self.features = features
        self.config = config
        self.source = source
        self.order = StreamOrder(seed, name, len(source), config.block)
        with component_faults(config.task):
            self.task = config.task.build()

    def take(self, step: int, make: Make[T], faults: Faults) -> list[tuple[Visit, T]]:
        """Apply `make` to each record of a step; broken records are replaced and added to `faults`."""
        count = self.config.records_a_step
        return [self._take(self.order.slot(step * count + place), make, faults) for place in self.places]

    @property
    def places(self) -> list[int]:
        """Positions in every step that this rank reads."""
        return self.share.places(self.config.records_a_step, self.config.block)

    def index_of(self, slot: Slot) -> int:
        """Return the index in the source of a slot's record."""
        return index_in(self.source, slot.record, slot.epoch)

    def _take(self, slot: Slot, make: Make[T], faults: Faults) -> tuple[Visit, T]:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            record: Record = {}
            faults.drawn += 1
            try:
                with component_faults(self.config.source):
                    record = self.source[self.index_of(slot)]
                sample = make(
                    record, self.order.of_sample(slot.epoch, slot.record), self._stored(slot, record)
                )
            except DataError as error:
                place = place_of(self.source, self.index_of(slot))
                faults.append(BrokenRecord.from_error(self.name, record_id(record, slot), error, place))
                slot = slot._replace(record=self.order.replacement(slot.epoch, slot.position, attempt))
                continue
            return Visit(slot, record_id(record, slot)), sample
        raise DataError(
            f"stream {self.name}: {MAX_ATTEMPTS} records in a row are broken, the last because "
            f"{faults[-1].message}"
        )

    def _stored(self, slot: Slot, record: Record) -> RecordFeatures | None:
        if self.features is None:
            return None
        return RecordFeatures(self.features, record, self.index_of(slot), slot.epoch)


class Faults(list[BrokenRecord]):
    """Broken records of a step, with the number of records drawn for it."""

    drawn: int = 0


def open_sources(configs: Iterable[SourceConfig]) -> list[Source]:
    """Open the source of each config; equal configs share one source."""
    opened: list[tuple[SourceConfig, Source]] = []
    sources = []
    for config in configs:
        source = next((source for known, source in opened if known == config), None)
        if source is None:
            with component_faults(config):
                source = config.open()
            opened.append((config, source))
        sources.append(source)
    return sources


def place_of(source: object, index: int) -> Place | None:
    """Return the place of a record in its file, if the source knows it."""
    return source.place(index) if isinstance(source, Located) else None


def record_id(record: Record, slot: Slot) -> str:
    """Return the record's id, or its position in the source if it has none."""
    return str(record.get("id", f"#{slot.record}"))


class DrawnImages(NamedTuple):
    """The rows of a stream of images in one step."""

    visits: list[Visit]
    rows: list[PretrainingRow]

    def pairs(self, numbers: Sequence[int]) -> DrawnPairs:
        """Return a pair of image and text for each row; `numbers` are the images' indices among the step's."""
        texts = [row.row.texts[0] for row in self.rows]
        return DrawnPairs(list(numbers), texts, [visit.record for visit in self.visits])


def draw_rows(
    stream: Stream, step: int, spec: ImageSpec, faults: Faults, keep_shape: bool = False
) -> tuple[list[Visit], list[PretrainingRow]]:
    """Draw a row of pretraining from each record of a step; `keep_shape` if a stream of boxes shares the images."""

    def draw(record: Record, rng: Generator, stored: RecordFeatures | None) -> PretrainingRow:
        return draw_pretraining(
            stream.task, record, stream.config, spec, rng, keep_shape=keep_shape, stored=stored
        )

    taken = stream.take(step, draw, faults)
    return [visit for visit, _ in taken], [row for _, row in taken]


def draw_images(
    stream: Stream, step: int, spec: ImageSpec, faults: Faults, keep_shape: bool = False
) -> DrawnImages:
    """Draw images, or videos, each with a text; arguments as in `draw_rows`."""
    return DrawnImages(*draw_rows(stream, step, spec, faults, keep_shape))


def draw_regions(
    stream: Stream, step: int, spec: ImageSpec, faults: Faults, offset: int
) -> tuple[DrawnPairs, list[Visual]]:
    """Draw regions and their images, which follow at `offset` in the step's images."""
    visits, drawn = draw_rows(stream, step, spec, faults)
    rows = _limit_rows(
        stream,
        step,
        [
            (number, visit.record, region_texts(one.row))
            for number, (visit, one) in enumerate(zip(visits, drawn, strict=True))
        ],
    )
    used = sorted(set(rows.images))  # images without rows are not encoded
    if stream.share != ALL:  # rows are dropped after the ranks have exchanged theirs
        used = list(range(len(drawn)))
    place = {number: offset + position for position, number in enumerate(used)}
    return rows._replace(images=[place[n] for n in rows.images]), [drawn[n].row.images[0] for n in used]


def region_texts(row: TaskRow) -> RegionTexts:
    """Return texts and boxes of a row of the layout boxes."""
    bbox = [WHOLE if box is None else tuple(box) for box in row.targets["bbox"]]
    return RegionTexts(row.texts, bbox, [box is None for box in row.targets["bbox"]])


def draw_shared_regions(
    stream: Stream, step: int, spec: ImageSpec, images: DrawnImages, numbers: Sequence[int], faults: Faults
) -> DrawnPairs:
    """Draw regions of the images of another stream, which has the captions already; `numbers` as in `pairs`.

    A record with broken regions is added to `faults` and not replaced, since its image stays in the batch.
    """
    with_regions = []
    faults.drawn += len(images.visits)
    for number, visit, drawn in zip(numbers, *images, strict=True):
        rng = stream.order.of_sample(visit.slot.epoch, visit.slot.record)
        try:
            found = draw_pretraining(stream.task, drawn.record, stream.config, spec, rng, drawn.view)
        except DataError as error:
            place = place_of(stream.source, stream.index_of(visit.slot))
            faults.append(BrokenRecord.from_error(stream.name, visit.record, error, place))
            continue
        with_regions.append((number, visit.record, region_texts(found.row)))
    return _limit_rows(stream, step, with_regions, broken=len(images.visits) - len(with_regions))


def count_images(
    drawn: RegionImages, before: Iterable[T], kept: Iterable[T], records: Iterable[str]
) -> RegionImages:
    """Count the images that lost rows to `batch_size`.

    Args:
        drawn: with `drawn` and `broken`.
        before: image of each row before the limit.
        kept: image of each row after the limit.
        records: record of each row after the limit.
    """
    rows, left = list(before), list(kept)
    return drawn._replace(
        empty=drawn.drawn - drawn.broken - len(set(rows)),
        over_limit=len(set(rows)) - len(set(left)),
        repeated=len(set(left)) - len(set(records)),
        rows_over_limit=len(rows) - len(left),
    )


def _limit_rows(
    stream: Stream, step: int, sampled: list[tuple[int, str, RegionTexts]], broken: int = 0
) -> DrawnPairs:
    """Select `batch_size` rows at random, in order; fewer rows stay as they are.

    With several ranks nothing is dropped here: the selection is made over the rows of all ranks (`sharing`).
    """
    counts = RegionImages(len(sampled) + broken, broken)
    rows = [
        (image, record, text, bbox, whole)
        for image, record, regions in sampled
        for text, bbox, whole in zip(*regions, strict=True)
    ]
    before = [row[0] for row in rows]
    if len(rows) > stream.config.batch_size and stream.share == ALL:
        chosen = stream.order.of_rows(step).permutation(len(rows))[: stream.config.batch_size]
        rows = [rows[number] for number in sorted(chosen.tolist())]
    texts = [row[2] for row in rows]
    regions = RegionTexts(texts, [row[3] for row in rows], [row[4] for row in rows])
    images, records = [row[0] for row in rows], [row[1] for row in rows]
    return DrawnPairs(images, texts, records, regions, count_images(counts, before, images, records))


def draw_pairs(stream: Stream, step: int, spec: ImageSpec, faults: Faults) -> DrawnParallel:
    """Draw pairs of texts."""
    visits, drawn = draw_rows(stream, step, spec, faults)
    return DrawnParallel([_pair(one.row) for one in drawn], [visit.record for visit in visits])


def _pair(row: TaskRow) -> PairSample:
    first, second = row.texts
    return PairSample(first, second, tuple(row.targets["languages"]))


def draw_texts(stream: Stream, step: int, spec: ImageSpec, faults: Faults) -> DrawnTexts:
    """Draw texts without images."""
    visits, drawn = draw_rows(stream, step, spec, faults)
    return DrawnTexts([row.texts[0] for row, _, _ in drawn], [visit.record for visit in visits])


def draw_task(
    stream: Stream, step: int, spec: ImageSpec, tokenizer: Tokenizer, faults: Faults
) -> tuple[list[TaskRow], DrawnTask]:
    """Draw the rows of a task and tokenise their texts; the images of the rows are not numbered yet."""
    task = stream.task

    def draw(record: Record, rng: Generator, stored: RecordFeatures | None) -> TaskRow:
        return draw_row(task, record, stream.config, spec, rng, stored)

    taken = stream.take(step, draw, faults)
    rows = [row for _, row in taken]
    with component_faults(task.config):
        encoded = task.encode(rows, tokenizer, stream.config.max_tokens)
    return rows, DrawnTask([], encoded, [visit.record for visit, _ in taken])


def read_records(stream: Stream, step: int, spec: ImageSpec) -> list[Record]:
    """Read the record of each row that `draw_task` draws in a step."""

    def read(record: Record, rng: Generator, stored: RecordFeatures | None) -> Record:
        # A broken record is replaced as in the step.
        draw_row(stream.task, record, stream.config, spec, rng, stored)
        return record

    return [record for _, record in stream.take(step, read, Faults())]


class StepDraw:
    """Draw the rows of the streams that are on in a step, and the images that they share.

    Args:
        streams: by name.
        step: number of the step, from 0.
        spec: input of the vision encoder.
        tokenizer: of the text encoder.
        on: names of the streams that are on.

    Attributes:
        images: of all streams, in order.
        videos: the frames of each video.
        faults: broken records, and the number drawn.
        rows: of each stream.
        places: of each stream, for each row the position in the step of its record.
    """

    def __init__(
        self,
        streams: dict[str, Stream],
        step: int,
        spec: ImageSpec,
        tokenizer: Tokenizer,
        on: Sequence[str],
    ) -> None:
        self.images: list[Visual] = []
        self.videos: list[list[Visual]] = []
        self.faults = Faults()
        self.rows: dict[str, Drawn] = {}
        self.places: dict[str, list[int]] = {}
        self._image_places: list[int] = []
        self._streams, self._step, self._spec, self._tokenizer = streams, step, spec, tokenizer
        self._drawn_images: dict[str, tuple[DrawnImages, list[int]]] = {}
        # Read from the recipe, not from the step: a loss that starts later must not change the images of this step.
        self._shared = {stream.config.image_stream for stream in streams.values()}
        for name in on:
            drawn = self._draw(streams[name])
            self.rows[name] = drawn
            self.places[name] = streams[name].places
            if isinstance(drawn, DrawnPairs) and drawn.regions is not None:
                self.places[name] = [self._image_places[number] for number in drawn.images]
        for name, drawn in self.rows.items():
            if isinstance(drawn, DrawnPairs):
                self.rows[name] = drawn._replace(images=list(map(self._number, drawn.images)))
            if isinstance(drawn, DrawnTask):
                self.rows[name] = drawn._replace(
                    images=[list(map(self._number, row)) for row in drawn.images]
                )

    def _draw(self, stream: Stream) -> Drawn:
        layout, source = stream.config.layout, stream.config.image_stream
        if layout == "images":
            images, numbers = self._images_of(stream.name)
            return images.pairs(numbers)
        if layout == "boxes" and source is not None:
            images, numbers = self._images_of(source)
            return draw_shared_regions(stream, self._step, self._spec, images, numbers, self.faults)
        if layout == "boxes":
            pairs, pixels = draw_regions(stream, self._step, self._spec, self.faults, len(self.images))
            self._append_all(stream, pixels)
            return pairs
        if layout == "parallel":
            return draw_pairs(stream, self._step, self._spec, self.faults)
        if layout == "texts":
            return draw_texts(stream, self._step, self._spec, self.faults)
        rows, drawn = draw_task(stream, self._step, self._spec, self._tokenizer, self.faults)
        return drawn._replace(
            images=[
                [self._append(image, place) for image in row.images]
                for row, place in zip(rows, stream.places, strict=True)
            ]
        )

    def _append_all(self, stream: Stream, images: Sequence[Any]) -> list[int]:
        """Add the images or videos of a stream, one for each record."""
        return [self._append(image, place) for image, place in zip(images, stream.places, strict=False)]

    def _append(self, image: Visual | list[Visual], place: int) -> int:
        """Add an image, or the frames of a video; `place` is that of its record.

        Returns: its index, counted down from -1 for videos.
        """
        if isinstance(image, list):
            self.videos.append(image)
            return -len(self.videos)
        self.images.append(image)
        self._image_places.append(place)
        return len(self.images) - 1

    def _number(self, index: int) -> int:
        """Number videos after all images."""
        return index if index >= 0 else len(self.images) - index - 1

    def _images_of(self, name: str) -> tuple[DrawnImages, list[int]]:
        """Return the images of a stream and their numbers; draw them at the first call."""
        if name not in self._drawn_images:
            stream = self._streams[name]
            images = draw_images(stream, self._step, self._spec, self.faults, keep_shape=name in self._shared)
            numbers = self._append_all(stream, [row.row.images[0] for row in images.rows])
            self._drawn_images[name] = images, numbers
        return self._drawn_images[name]
