"""From a stream and a step to drawn rows: each kind of stream in turn. Imports torch.

A broken record is caught here and nowhere else. Its place is taken by another record of the stream, drawn
from the place alone, so that a step is the same whoever prepares it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

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
from x2kit.data.pipeline.video_samples import video_sample
from x2kit.data.transforms.view import Pixels
from x2kit.data.validation.bad_records import broken
from x2kit.errors import DataError
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Located, Place, Record, Source, index_in

T = TypeVar("T")
MAX_ATTEMPTS = 100
"""Records tried for one place before the source is given up."""


class Visit(NamedTuple):
    """A record that was read without fault: its slot (that of the replacement, if one was needed) and id."""

    slot: Slot
    record: str


class DrawnPairs(NamedTuple):
    """Rows with images, not yet tensors; `images` are places in the step's images, `counts` those of regions."""

    images: list[int]
    texts: list[str]
    records: list[str]
    regions: RegionTexts | None = None
    counts: RegionImages | None = None


class DrawnParallel(NamedTuple):
    """Rows of a parallel-text stream, not yet tensors."""

    pairs: list[PairSample]
    records: list[str]


class DrawnTexts(NamedTuple):
    """Rows of a text stream, not yet tensors."""

    texts: list[str]
    records: list[str]


class Stream:
    """One stream with its records open.

    Args:
        name: in the recipe.
        config: its settings.
        source: its records.
        seed: of the run.
        share: of the records of every step that are taken here.
    """

    def __init__(
        self, name: str, config: StreamConfig, source: Source, seed: int, share: Share = ALL
    ) -> None:
        self.name = name
        self.share = share
        self.config = config
        self.source = source
        self.order = StreamOrder(seed, name, len(source), config.block)

    def take(
        self, step: int, make: Callable[[Record, Generator], T], faults: Faults
    ) -> list[tuple[Visit, T]]:
        """What `make` draws from each record of a step; broken ones are replaced and noted in `faults`."""
        count = self.config.records_a_step
        return [self._take(self.order.slot(step * count + place), make, faults) for place in self.places]

    @property
    def places(self) -> list[int]:
        """The places in every step whose records are taken here."""
        return self.share.places(self.config.records_a_step, self.config.block)

    def index_of(self, slot: Slot) -> int:
        """Where the source has the record of a slot."""
        return index_in(self.source, slot.record, slot.epoch)

    def _take(self, slot: Slot, make: Callable[[Record, Generator], T], faults: Faults) -> tuple[Visit, T]:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            record: Record = {}
            faults.drawn += 1
            try:
                with component_faults(self.config.source):
                    record = self.source[self.index_of(slot)]
                made = make(record, self.order.of_sample(slot.epoch, slot.record))
            except DataError as error:
                place = place_of(self.source, self.index_of(slot))
                faults.append(broken(self.name, record_id(record, slot), error, place))
                slot = slot._replace(record=self.order.replacement(slot.epoch, slot.position, attempt))
                continue
            return Visit(slot, record_id(record, slot)), made
        raise DataError(
            f"stream {self.name}: {MAX_ATTEMPTS} records in a row are broken, the last because "
            f"{faults[-1].message}"
        )


class Faults(list[BrokenRecord]):
    """The broken records of a step, and of how many records that were drawn for it."""

    drawn: int = 0


def place_of(source: object, index: int) -> Place | None:
    """Where a record stands, if the source can say."""
    return source.place(index) if isinstance(source, Located) else None


def record_id(record: Record, slot: Slot) -> str:
    """The record's id, or its position in the source where it has none."""
    return str(record.get("id", f"#{slot.record}"))


class DrawnImages(NamedTuple):
    """The records of an image-text stream in one step."""

    visits: list[Visit]
    samples: list[ImageSample]

    def rows(self, offset: int) -> DrawnPairs:
        """One row an image; `offset` is the place of the first one among the step's images."""
        texts = [sample.text for sample in self.samples]
        return DrawnPairs(list(range(offset, offset + len(texts))), texts, [v.record for v in self.visits])


def draw_images(stream: Stream, step: int, spec: ImageSpec, faults: Faults, keep_shape: bool) -> DrawnImages:
    """Images with their texts; `keep_shape` if a stream of regions shares the images."""
    taken = stream.take(
        step, lambda record, rng: image_sample(record, stream.config, spec, rng, keep_shape), faults
    )
    return DrawnImages([visit for visit, _ in taken], [sample for _, sample in taken])


def draw_regions(
    stream: Stream, step: int, spec: ImageSpec, faults: Faults, offset: int
) -> tuple[DrawnPairs, list[Pixels]]:
    """Regions of the stream's own records, with their images, which go to `offset` of the step's."""
    taken = stream.take(step, lambda record, rng: region_sample(record, stream.config, spec, rng), faults)
    rows = _thin(stream, step, [(n, visit.record, sample.regions) for n, (visit, sample) in enumerate(taken)])
    used = sorted(set(rows.images))  # an image that lost all its rows need not be encoded
    if stream.share != ALL:  # rows are left out later, when those of all processes are known
        used = list(range(len(taken)))
    place = {number: offset + position for position, number in enumerate(used)}
    return rows._replace(images=[place[n] for n in rows.images]), [taken[n][1].pixels for n in used]


def draw_shared_regions(
    stream: Stream, step: int, images: DrawnImages, faults: Faults, offset: int
) -> DrawnPairs:
    """Regions of images that an image-text stream has drawn; that stream has their captions already.

    A record whose regions are broken gives none and is noted; its image stays, so no other takes its place.
    """
    found = []
    faults.drawn += len(images.visits)
    for number, (visit, sample) in enumerate(zip(images.visits, images.samples, strict=True)):
        rng = stream.order.of_sample(visit.slot.epoch, visit.slot.record)
        try:
            regions = region_texts(sample.record, stream.config, sample.view, rng)
        except DataError as error:
            place = place_of(stream.source, stream.index_of(visit.slot))
            faults.append(broken(stream.name, visit.record, error, place))
            continue
        found.append((offset + number, visit.record, regions))
    return _thin(stream, step, found, broken=len(images.visits) - len(found))


def count_images(
    drawn: RegionImages, before: Iterable[T], kept: Iterable[T], records: Iterable[str]
) -> RegionImages:
    """Count the images that lose their rows to the limit.

    Args:
        drawn: `drawn` and `broken` are known.
        before: image of each row before the limit.
        kept: image of each row after it.
        records: record of each row after it.
    """
    rows, left = list(before), list(kept)
    return drawn._replace(
        empty=drawn.drawn - drawn.broken - len(set(rows)),
        over_limit=len(set(rows)) - len(set(left)),
        repeated=len(set(left)) - len(set(records)),
        rows_over_limit=len(rows) - len(left),
    )


def _thin(
    stream: Stream, step: int, found: list[tuple[int, str, RegionTexts]], broken: int = 0
) -> DrawnPairs:
    """At most `batch_size` of the rows, each with the same chance, in order; fewer are never filled up.

    A share of the rows stays as it is: what is left out depends on the shares of the other processes.
    """
    drawn = RegionImages(len(found) + broken, broken)
    rows = [
        (image, record, text, bbox, whole)
        for image, record, regions in found
        for text, bbox, whole in zip(*regions, strict=True)
    ]
    before = [row[0] for row in rows]
    if len(rows) > stream.config.batch_size and stream.share == ALL:
        chosen = stream.order.of_rows(step).permutation(len(rows))[: stream.config.batch_size]
        rows = [rows[number] for number in sorted(chosen.tolist())]
    texts = [row[2] for row in rows]
    regions = RegionTexts(texts, [row[3] for row in rows], [row[4] for row in rows])
    images, records = [row[0] for row in rows], [row[1] for row in rows]
    return DrawnPairs(images, texts, records, regions, count_images(drawn, before, images, records))


def draw_videos(
    stream: Stream, step: int, spec: ImageSpec, faults: Faults, offset: int
) -> tuple[DrawnPairs, list[list[Pixels]]]:
    """Videos with their texts, and the frames of each; `offset` is the place of the first among the step's videos."""
    taken = stream.take(step, lambda record, rng: video_sample(record, stream.config, spec, rng), faults)
    rows = DrawnPairs(
        list(range(offset, offset + len(taken))),
        [sample.text for _, sample in taken],
        [visit.record for visit, _ in taken],
    )
    return rows, [sample.frames for _, sample in taken]


def draw_pairs(stream: Stream, step: int, faults: Faults) -> DrawnParallel:
    """Pairs of texts."""
    taken = stream.take(step, lambda record, rng: pair_sample(record, stream.config, rng), faults)
    return DrawnParallel([pair for _, pair in taken], [visit.record for visit, _ in taken])


def draw_texts(stream: Stream, step: int, faults: Faults) -> DrawnTexts:
    """Texts alone."""
    taken = stream.take(step, lambda record, rng: text_sample(record, stream.config, rng), faults)
    return DrawnTexts([text for _, text in taken], [visit.record for visit, _ in taken])
