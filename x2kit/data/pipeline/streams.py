"""Draw the rows of a step from a stream of each kind. Imports torch.

Broken records are caught here only. Another record takes the position of a broken one, drawn from the position alone,
so that a step is the same whichever process prepares it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from numpy.random import Generator

from x2kit.data.config import StreamConfig
from x2kit.data.pipeline.batch import BrokenRecord, RegionImages
from x2kit.data.pipeline.order import ALL, Share, Slot, StreamOrder
from x2kit.data.pipeline.samples import (
    ImageSample,
    PairSample,
    RegionTexts,
    image_sample,
    pair_sample,
    region_sample,
    region_texts,
    text_sample,
)
from x2kit.data.pipeline.task_rows import DrawnTask, draw_row
from x2kit.data.pipeline.video_samples import video_sample
from x2kit.data.transforms.view import Pixels
from x2kit.errors import DataError
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import SourceConfig
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Located, Place, Record, Source, index_in
from x2kit.plugin.tasks import Task, TaskRow
from x2kit.plugin.tokenizers import Tokenizer

T = TypeVar("T")
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
    """Rows of a parallel-text stream before collation."""

    pairs: list[PairSample]
    records: list[str]


class DrawnTexts(NamedTuple):
    """Rows of a text stream before collation."""

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
    """

    def __init__(
        self, name: str, config: StreamConfig, source: Source, seed: int, share: Share = ALL
    ) -> None:
        self.name = name
        self.share = share
        self.config = config
        self.source = source
        self.order = StreamOrder(seed, name, len(source), config.block)
        self.task = None if config.task is None else config.task.build()

    def take(
        self, step: int, make: Callable[[Record, Generator], T], faults: Faults
    ) -> list[tuple[Visit, T]]:
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

    def _take(self, slot: Slot, make: Callable[[Record, Generator], T], faults: Faults) -> tuple[Visit, T]:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            record: Record = {}
            faults.drawn += 1
            try:
                with component_faults(self.config.source):
                    record = self.source[self.index_of(slot)]
                sample = make(record, self.order.of_sample(slot.epoch, slot.record))
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
    """The samples of an image-text stream in one step."""

    visits: list[Visit]
    samples: list[ImageSample]

    def rows(self, offset: int) -> DrawnPairs:
        """Return a row for each image; `offset` is the index of the first among the step's images."""
        texts = [sample.text for sample in self.samples]
        return DrawnPairs(list(range(offset, offset + len(texts))), texts, [v.record for v in self.visits])


def draw_images(stream: Stream, step: int, spec: ImageSpec, faults: Faults, keep_shape: bool) -> DrawnImages:
    """Draw images with texts; `keep_shape` if a region stream shares the images."""
    taken = stream.take(
        step, lambda record, rng: image_sample(record, stream.config, spec, rng, keep_shape), faults
    )
    return DrawnImages([visit for visit, _ in taken], [sample for _, sample in taken])


def draw_regions(
    stream: Stream, step: int, spec: ImageSpec, faults: Faults, offset: int
) -> tuple[DrawnPairs, list[Pixels]]:
    """Draw regions and their images, which follow at `offset` in the step's images."""
    taken = stream.take(step, lambda record, rng: region_sample(record, stream.config, spec, rng), faults)
    rows = _limit_rows(
        stream, step, [(n, visit.record, sample.regions) for n, (visit, sample) in enumerate(taken)]
    )
    used = sorted(set(rows.images))  # images without rows are not encoded
    if stream.share != ALL:  # rows are dropped after the ranks have exchanged theirs
        used = list(range(len(taken)))
    place = {number: offset + position for position, number in enumerate(used)}
    return rows._replace(images=[place[n] for n in rows.images]), [taken[n][1].pixels for n in used]


def draw_shared_regions(
    stream: Stream, step: int, images: DrawnImages, faults: Faults, offset: int
) -> DrawnPairs:
    """Draw regions of the images of an image-text stream, which has the captions already.

    A record with broken regions is added to `faults` and not replaced, since its image stays in the batch.
    """
    with_regions = []
    faults.drawn += len(images.visits)
    for number, (visit, sample) in enumerate(zip(images.visits, images.samples, strict=True)):
        rng = stream.order.of_sample(visit.slot.epoch, visit.slot.record)
        try:
            regions = region_texts(sample.record, stream.config, sample.view, rng)
        except DataError as error:
            place = place_of(stream.source, stream.index_of(visit.slot))
            faults.append(BrokenRecord.from_error(stream.name, visit.record, error, place))
            continue
        with_regions.append((offset + number, visit.record, regions))
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


def draw_videos(
    stream: Stream, step: int, spec: ImageSpec, faults: Faults, offset: int
) -> tuple[DrawnPairs, list[list[Pixels]]]:
    """Draw videos with texts, and their frames; `offset` is the index of the first among the step's videos."""
    taken = stream.take(step, lambda record, rng: video_sample(record, stream.config, spec, rng), faults)
    rows = DrawnPairs(
        list(range(offset, offset + len(taken))),
        [sample.text for _, sample in taken],
        [visit.record for visit, _ in taken],
    )
    return rows, [sample.frames for _, sample in taken]


def draw_pairs(stream: Stream, step: int, faults: Faults) -> DrawnParallel:
    """Draw pairs of texts."""
    taken = stream.take(step, lambda record, rng: pair_sample(record, stream.config, rng), faults)
    return DrawnParallel([pair for _, pair in taken], [visit.record for visit, _ in taken])


def draw_texts(stream: Stream, step: int, faults: Faults) -> DrawnTexts:
    """Draw texts without images."""
    taken = stream.take(step, lambda record, rng: text_sample(record, stream.config, rng), faults)
    return DrawnTexts([text for _, text in taken], [visit.record for visit, _ in taken])


def draw_task(
    stream: Stream, task: Task, step: int, spec: ImageSpec, tokenizer: Tokenizer, faults: Faults
) -> tuple[list[TaskRow], DrawnTask]:
    """Draw the rows of a task and tokenise their texts; the images of the rows are not numbered yet."""
    taken = stream.take(step, lambda record, rng: draw_row(task, record, stream.config, spec, rng), faults)
    rows = [row for _, row in taken]
    with component_faults(task.config):
        encoded = task.encode(rows, tokenizer, stream.config.max_tokens)
    return rows, DrawnTask([], encoded, [visit.record for visit, _ in taken])


def read_records(stream: Stream, task: Task, step: int, spec: ImageSpec) -> list[Record]:
    """Read the record of each row that `draw_task` draws in a step."""

    def read(record: Record, rng: Generator) -> Record:
        draw_row(task, record, stream.config, spec, rng)  # a broken record is replaced as in the step
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
        self.images: list[Pixels] = []
        self.videos: list[list[Pixels]] = []
        self.faults = Faults()
        self.rows: dict[str, Drawn] = {}
        self.places: dict[str, list[int]] = {}
        self._image_places: list[int] = []
        self._streams, self._step, self._spec, self._tokenizer = streams, step, spec, tokenizer
        self._drawn_images: dict[str, tuple[DrawnImages, int]] = {}
        # Read from the recipe, not from the step: a loss that starts later must not change the images of this step.
        self._shared = {stream.config.images_from for stream in streams.values()}
        for name in on:
            drawn = self._draw(streams[name])
            self.rows[name] = drawn
            self.places[name] = streams[name].places
            if isinstance(drawn, DrawnPairs) and drawn.regions is not None:
                self.places[name] = [self._image_places[number] for number in drawn.images]
        for name, drawn in self.rows.items():
            if isinstance(drawn, DrawnPairs) and streams[name].config.kind == "video-text":
                after_images = [len(self.images) + number for number in drawn.images]
                self.rows[name] = drawn._replace(images=after_images)
            if isinstance(drawn, DrawnTask):
                self.rows[name] = drawn._replace(
                    images=[list(map(self._number, row)) for row in drawn.images]
                )

    def _draw(self, stream: Stream) -> Drawn:
        config = stream.config
        if config.kind == "image-text":
            images, offset = self._images_of(stream.name)
            return images.rows(offset)
        if config.kind == "region-text" and config.images_from is not None:
            images, offset = self._images_of(config.images_from)
            return draw_shared_regions(stream, self._step, images, self.faults, offset)
        if config.kind == "region-text":
            drawn, pixels = draw_regions(stream, self._step, self._spec, self.faults, len(self.images))
            self.images.extend(pixels)
            self._image_places.extend(stream.places[: len(pixels)])
            return drawn
        if config.kind == "video-text":
            drawn, videos = draw_videos(stream, self._step, self._spec, self.faults, len(self.videos))
            self.videos.extend(videos)
            return drawn
        if stream.task is not None:
            rows, task_rows = draw_task(
                stream, stream.task, self._step, self._spec, self._tokenizer, self.faults
            )
            return task_rows._replace(images=[list(map(self._append, row.images)) for row in rows])
        draw = draw_pairs if config.kind == "parallel-text" else draw_texts
        return draw(stream, self._step, self.faults)

    def _append(self, image: Pixels | list[Pixels]) -> int:
        """Add an image, or the frames of a video. Returns: its index, counted down from -1 for videos."""
        if isinstance(image, list):
            self.videos.append(image)
            return -len(self.videos)
        self.images.append(image)
        return len(self.images) - 1

    def _number(self, index: int) -> int:
        """Number videos after all images."""
        return index if index >= 0 else len(self.images) - index - 1

    def _images_of(self, name: str) -> tuple[DrawnImages, int]:
        """Return the images of an image-text stream and the index of the first; draw them at the first call."""
        if name not in self._drawn_images:
            stream = self._streams[name]
            images = draw_images(stream, self._step, self._spec, self.faults, keep_shape=name in self._shared)
            self._drawn_images[name] = images, len(self.images)
            self.images.extend(sample.pixels for sample in images.samples)
            self._image_places.extend(stream.places)
        return self._drawn_images[name]
