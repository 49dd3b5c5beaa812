"""Load the batch of any step as a pure function of the step. Imports torch.

Every step takes one batch of each stream. No state is carried from step to step, so a run resumes from a step number
alone, and the number of workers changes only the speed.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import cached_property
from itertools import chain

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
    open_sources,
)
from x2kit.data.pipeline.workers import worker_results
from x2kit.data.transforms.view import Pixels, stack_pixels
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.tokenizers import Tokenizer

MASKING_LOSSES = frozenset({"mlm", "tlm"})


class StepBatches:
    """Prepare the batches of a run.

    Each process opens the sources for itself, at its first batch.

    Args:
        data: streams of the recipe.
        tokenizer: of the text encoder.
        image: input of the vision encoder.
        seed: of the run.
        steps: of the whole run; `start` and `stop` of losses are shares of it.
        share: of each step's records, for one of several ranks.
        gather: all-gathers an object over the ranks, which load batches in the same order; None for a single rank.
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
        """Load the batch of a step, numbered from 0.

        Raises: DataError if a source cannot be opened, is empty, or has a hundred broken records in a row.
        """
        return self._complete(self._prepare(step))

    def iterate(self, first_step: int = 0) -> Generator[Batch]:
        """Yield batches from `first_step` to the end, prepared by `num_workers` processes, which end with it.

        Raises: as `batch`, at the step that failed.
        """
        steps = range(first_step, self._steps)
        if self._data.num_workers == 0:
            yield from map(self.batch, steps)
            return
        unopened = StepBatches(self._data, self._tokenizer, self._image, self._seed, self._steps, self._share)
        with worker_results(unopened._prepare, steps, self._data.num_workers) as prepared:
            yield from map(self._complete, prepared)

    def fingerprints(self) -> dict[str, str]:
        """Return a short hash of each stream's data, which changes with the data."""
        return {name: stream.source.fingerprint() for name, stream in self._streams.items()}

    def _prepare(self, step: int) -> Batch | Part:
        """Do the work of a step that needs no other rank: the whole batch, or this rank's part of it."""
        on = [name for name, stream in self._data.streams.items() if stream.is_on(step, self._steps)]
        draw = _StepDraw(self._streams, step, self._image, on)
        pixels = [*draw.images, *chain.from_iterable(draw.videos)]
        part = Part(
            step,
            stack_pixels(pixels) if pixels else None,
            tuple(map(len, draw.videos)),
            draw.rows,
            draw.places,
            list(draw.faults),
            draw.faults.drawn,
        )
        return self._complete(part) if self._share == ALL else part

    def _complete(self, part: Batch | Part) -> Batch:
        """Collate the rows, after an exchange with the other ranks if there are any."""
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
        rows = {name: self._collate(name, rows, part.step, name in masked) for name, rows in drawn.items()}
        records = {name: list(dict.fromkeys(rows.records)) for name, rows in drawn.items()}
        regions = {
            name: rows.counts
            for name, rows in part.drawn.items()
            if isinstance(rows, DrawnPairs) and rows.counts is not None
        }
        return Batch(part.step, part.images, rows, records, part.broken, part.tried, part.videos, regions)

    def _collate(self, name: str, drawn: Drawn, step: int, masks: bool) -> Rows:
        collator = self._collators[name]
        rng = self._streams[name].order.of_masks(step)
        if isinstance(drawn, DrawnPairs):
            return collator.pairs(drawn, rng if masks else None)
        if isinstance(drawn, DrawnParallel):
            return collator.parallel(drawn, rng if masks else None)
        return collator.texts(drawn, rng)

    @cached_property
    def _streams(self) -> dict[str, Stream]:
        self._data.limits.apply()
        streams = self._data.streams
        sources = open_sources(config.source for config in streams.values())
        return {
            name: Stream(name, config, source, self._seed, self._share)
            for (name, config), source in zip(streams.items(), sources, strict=True)
        }

    @cached_property
    def _collators(self) -> dict[str, Collator]:
        return {name: Collator(config, self._tokenizer) for name, config in self._data.streams.items()}


class _StepDraw:
    """Draw the rows of the streams that are on in a step, and the images that they share.

    Attributes:
        images: of all streams, in order.
        videos: the frames of each video.
        faults: broken records, and the number drawn.
        rows: of each stream.
        places: of each stream, for each row the position in the step of its record.
    """

    def __init__(self, streams: dict[str, Stream], step: int, spec: ImageSpec, on: Sequence[str]) -> None:
        self.images: list[Pixels] = []
        self.videos: list[list[Pixels]] = []
        self.faults = Faults()
        self.rows: dict[str, Drawn] = {}
        self.places: dict[str, list[int]] = {}
        self._image_places: list[int] = []
        self._streams, self._step, self._spec = streams, step, spec
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
        draw = draw_pairs if config.kind == "parallel-text" else draw_texts
        return draw(stream, self._step, self.faults)

    def _images_of(self, name: str) -> tuple[DrawnImages, int]:
        """Return the images of an image-text stream and the index of the first; draw them at the first call."""
        if name not in self._drawn_images:
            stream = self._streams[name]
            images = draw_images(stream, self._step, self._spec, self.faults, keep_shape=name in self._shared)
            self._drawn_images[name] = images, len(self.images)
            self.images.extend(sample.pixels for sample in images.samples)
            self._image_places.extend(stream.places)
        return self._drawn_images[name]
