"""The batch of any step, as a pure function of the step, and batches in a row. Imports torch.

Every step takes one batch of each stream. Nothing is kept from step to step, so a run goes on from a step
number alone, and the number of processes changes only how fast batches come.
"""

from __future__ import annotations

import traceback
from collections.abc import Generator, Sequence
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from torch.utils.data import Dataset

from x2kit.data.config import DataConfig
from x2kit.data.pipeline.batch import Batch, Rows
from x2kit.data.pipeline.collation import Collator
from x2kit.data.pipeline.order import ALL, Share
from x2kit.data.pipeline.sharing import Drawn, Gather, Part, join
from x2kit.data.pipeline.streams import (
    DrawnImages,
    DrawnPairs,
    DrawnParallel,
    Faults,
    Stream,
    draw_images,
    draw_pairs,
    draw_regions,
    draw_shared_regions,
    draw_texts,
    draw_videos,
)
from x2kit.data.pipeline.workers import worker_results
from x2kit.data.transforms.view import Pixels, stack_pixels
from x2kit.errors import DataError, PluginError, X2KitError
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import SourceConfig
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.loading.file_modules import WithFilePlugins
from x2kit.plugin.sources import Source
from x2kit.plugin.tokenizers import Tokenizer

MASKING_LOSSES = frozenset({"mlm", "tlm"})


class StepBatches:
    """The batches of a run.

    Sources are opened when the first batch is made, in each process for itself.

    Args:
        data: the recipe's streams.
        tokenizer: of the text encoder.
        image: what the vision encoder wants.
        seed: of the run.
        steps: of the whole run; shares at which losses start and stop are of these.
        share: of the records of each step that this process takes, where several make the batch.
        gather: what each of these processes has of a value, by rank; they make batches in the same order.
    """

    def __init__(
        self,
        data: DataConfig,
        tokenizer: Tokenizer,
        image: ImageSpec,
        seed: int,
        steps: int,
        share: Share = ALL,
        gather: Gather | None = None,
    ) -> None:
        self._data = data
        self._tokenizer = tokenizer
        self._image = image
        self._seed = seed
        self._steps = steps
        self._share = share
        self._gather = gather

    def batch(self, step: int) -> Batch:
        """The batch of a step, from 0.

        Raises: DataError if a source cannot be opened, is empty, or has a hundred broken records in a row.
        """
        return self._whole(self._drawn(step))

    def _drawn(self, step: int) -> Batch | Part:
        """What needs no other process: the batch, or this process's part of it."""
        part = self._part(step)
        return self._whole(part) if self._share == ALL else part

    def _part(self, step: int) -> Part:
        on = [name for name, stream in self._data.streams.items() if stream.is_on(step, self._steps)]
        drawing = _Drawing(self._streams, step, self._image, on)
        pixels = [*drawing.all_images, *chain.from_iterable(drawing.videos)]
        return Part(
            step,
            stack_pixels(pixels) if pixels else None,
            tuple(map(len, drawing.videos)),
            drawing.rows,
            drawing.places,
            list(drawing.faults),
            drawing.faults.drawn,
        )

    def _whole(self, part: Batch | Part) -> Batch:
        if isinstance(part, Batch):
            return part
        masked = [
            name
            for name in part.drawn
            if not MASKING_LOSSES.isdisjoint(self._data.streams[name].losses_on(part.step, self._steps))
        ]
        if self._gather is not None:
            orders = {name: self._streams[name].order for name in part.drawn}
            return join(part, masked, self._collators, orders, self._share.rank, self._gather)
        drawn = {name: rows for name, rows in part.drawn.items() if rows.records}
        rows = {
            name: self._collate(name, of_stream, part.step, name in masked)
            for name, of_stream in drawn.items()
        }
        records = {name: list(dict.fromkeys(of_stream.records)) for name, of_stream in drawn.items()}
        regions = {
            name: of_stream.counts
            for name, of_stream in part.drawn.items()
            if isinstance(of_stream, DrawnPairs) and of_stream.counts is not None
        }
        return Batch(part.step, part.images, rows, records, part.broken, part.tried, part.videos, regions)

    def iterate(self, first_step: int = 0) -> Generator[Batch]:
        """Batches from `first_step` to the end, prepared by `num_workers` processes that end when it is closed.

        Raises: as `batch`, at the step that a process failed to prepare.
        """
        steps = range(first_step, self._steps)
        if self._data.num_workers == 0:
            yield from map(self.batch, steps)
            return
        fresh = StepBatches(self._data, self._tokenizer, self._image, self._seed, self._steps, self._share)
        with worker_results(_Steps(fresh), steps, self._data.num_workers) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, _Failure):
                    raise outcome.error()
                yield self._whole(outcome)

    def fingerprints(self) -> dict[str, str]:
        """A short hash of each stream's data, which changes when the data changes."""
        return {name: stream.source.fingerprint() for name, stream in self._streams.items()}

    @cached_property
    def _streams(self) -> dict[str, Stream]:
        self._data.limits.apply()
        opened: list[tuple[SourceConfig, Source]] = []  # equal sources are opened once
        streams = {}
        for name, config in self._data.streams.items():
            source = next((source for known, source in opened if known == config.source), None)
            if source is None:
                with component_faults(config.source):
                    source = config.source.open()
                opened.append((config.source, source))
            streams[name] = Stream(name, config, source, self._seed, self._share)
        return streams

    @cached_property
    def _collators(self) -> dict[str, Collator]:
        return {name: Collator(config, self._tokenizer) for name, config in self._data.streams.items()}

    def _collate(self, name: str, drawn: Drawn, step: int, masks: bool) -> Rows:
        collator = self._collators[name]
        rng = self._streams[name].order.of_masks(step)
        if isinstance(drawn, DrawnPairs):
            return collator.pairs(drawn, rng if masks else None)
        if isinstance(drawn, DrawnParallel):
            return collator.parallel(drawn, rng if masks else None)
        return collator.texts(drawn, rng)


class _Drawing:
    """What a step draws: the images once, and the rows of the streams that are on, in order."""

    def __init__(self, streams: dict[str, Stream], step: int, spec: ImageSpec, on: Sequence[str]) -> None:
        self.all_images: list[Pixels] = []
        self.videos: list[list[Pixels]] = []
        self.faults = Faults()
        self.rows: dict[str, Drawn] = {}
        self.places: dict[str, list[int]] = {}
        """Of each row, the place in the step of its record."""
        self._places: list[int] = []  # of each image
        self._streams, self._step, self._spec = streams, step, spec
        self._givers: dict[str, tuple[DrawnImages, int]] = {}
        # Whether a stream of regions shares the images is asked of the recipe, not of the step: a loss that
        # starts later must not change how images look.
        self._shared = {stream.config.images_from for stream in streams.values()}
        for name in on:
            drawn = self._draw(streams[name])
            self.rows[name] = drawn
            self.places[name] = streams[name].places
            if isinstance(drawn, DrawnPairs) and drawn.regions is not None:
                self.places[name] = [self._places[number] for number in drawn.images]
        for name, drawn in self.rows.items():
            if isinstance(drawn, DrawnPairs) and streams[name].config.kind == "video-text":
                behind = [len(self.all_images) + number for number in drawn.images]
                self.rows[name] = drawn._replace(images=behind)

    def _draw(self, stream: Stream) -> Drawn:
        if stream.config.kind == "image-text":
            images, offset = self._images(stream.name)
            return images.rows(offset)
        if stream.config.kind == "region-text":
            if stream.config.images_from is not None:
                images, offset = self._images(stream.config.images_from)
                return draw_shared_regions(stream, self._step, images, self.faults, offset)
            offset = len(self.all_images)
            drawn, all_images = draw_regions(stream, self._step, self._spec, self.faults, offset)
            self.all_images.extend(all_images)
            self._places.extend(stream.places[: len(all_images)])
            return drawn
        if stream.config.kind == "video-text":
            drawn, videos = draw_videos(stream, self._step, self._spec, self.faults, len(self.videos))
            self.videos.extend(videos)
            return drawn
        draw = draw_pairs if stream.config.kind == "parallel-text" else draw_texts
        return draw(stream, self._step, self.faults)

    def _images(self, name: str) -> tuple[DrawnImages, int]:
        if name not in self._givers:
            stream = self._streams[name]
            images = draw_images(stream, self._step, self._spec, self.faults, keep_shape=name in self._shared)
            self._givers[name] = images, len(self.all_images)
            self.all_images.extend(sample.pixels for sample in images.samples)
            self._places.extend(stream.places)
        return self._givers[name]


class _Failure(NamedTuple):
    """An error of ours on its way from a process: the loader would bury its message in a traceback.

    Attributes:
        message: of the error.
        trace: the traceback of a component's error; empty for any other.
    """

    message: str
    trace: str = ""

    @classmethod
    def of(cls, error: X2KitError) -> _Failure:
        """Keep of an error what can be sent to another process."""
        if isinstance(error, PluginError) and error.__cause__ is not None:
            return cls(str(error), "".join(traceback.format_exception(error.__cause__)))
        return cls(str(error))

    def error(self) -> X2KitError:
        """Make the error to be raised in the main process."""
        if not self.trace:
            return DataError(self.message)
        error = PluginError(self.message)
        error.__cause__ = RuntimeError(f"in a data worker:\n{self.trace}")
        return error


class _Steps(WithFilePlugins, Dataset[Batch | Part | _Failure]):
    def __init__(self, batches: StepBatches) -> None:
        self._batches = batches

    def __getitem__(self, step: int) -> Batch | Part | _Failure:
        try:
            return self._batches._drawn(step)
        except X2KitError as error:
            return _Failure.of(error)
