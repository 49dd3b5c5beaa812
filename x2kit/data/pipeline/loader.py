"""Load the batch of any step as a pure function of the step. Imports torch.

Every step takes one batch of each stream. No state is carried from step to step, so a run resumes from a step number
alone, and the number of workers changes only the speed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain

from x2kit.data.config import DataConfig
from x2kit.data.features.shards import FeatureFolder, FeatureReader, ImageFeatures, stack_features
from x2kit.data.pipeline.batch import Batch
from x2kit.data.pipeline.batch_buffer import BufferedBatch, from_buffer, shared, to_buffer
from x2kit.data.pipeline.collation import Collator, TeacherTokens
from x2kit.data.pipeline.order import ALL, Share
from x2kit.data.pipeline.sharing import Gather, Part, join, refuse
from x2kit.data.pipeline.streams import DrawnPairs, StepDraw, Stream, open_sources, read_records
from x2kit.data.pipeline.workers import worker_results
from x2kit.data.storage.index_cache import FINGERPRINT_FORM, fingerprints_in_form
from x2kit.data.transforms.view import stack_pixels
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Record
from x2kit.plugin.tokenizers import Tokenizer

MASKING_LOSSES = frozenset({"mlm", "tlm"})


@dataclass(eq=False)
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
        ranks: gives an all-gather over the ranks, which load batches in the same order; collective. Its result can be
            pickled: the workers of all ranks gather among themselves. None for a single rank.
        teachers: of the streams that have one.
        features: complete, of the streams whose images are cached; all with images, or none.
    """

    data: DataConfig
    tokenizer: Tokenizer
    image: ImageSpec
    seed: int
    steps: int
    share: Share = ALL
    ranks: Callable[[], Gather] | None = None
    teachers: Mapping[str, TeacherTokens] = field(default_factory=dict)
    features: Mapping[str, FeatureFolder] = field(default_factory=dict)

    def batch(self, step: int) -> Batch:
        """Load the batch of a step, numbered from 0.

        Raises: DataError if a source cannot be opened, is empty, or has a hundred broken records in a row; RankGone if
            another rank cannot load its part.
        """
        return self._load(self._gather(), step)

    def task_records(self, step: int) -> dict[str, list[Record]]:
        """Read the records of a step's rows, of each task with its own losses; for people, not for training.

        Raises: as `batch`.
        """
        return {
            name: read_records(stream, step, self.image)
            for name, stream in self._streams.items()
            if stream.config.layout is None and stream.config.is_on(step, self.steps)
        }

    def iterate(self, first_step: int = 0) -> Generator[Batch]:
        """Yield batches from `first_step` to the end, prepared by `num_workers` processes, which end with it.

        Raises: as `batch`, at the step that failed.
        """
        steps, gather = range(first_step, self.steps), self._gather()
        if self.data.num_workers == 0:
            yield from map(partial(self._load, gather), steps)
            return
        # Each worker opens the sources for itself.
        load = partial(replace(self, ranks=None)._load_buffered, gather)
        with worker_results(load, steps, self.data.num_workers) as batches:
            yield from map(from_buffer, batches)
        if gather is not None:
            gather(None)  # no rank ends its workers while another rank's still read from them

    def fingerprints(self, form: int = FINGERPRINT_FORM) -> dict[str, str]:
        """Return a short hash of each stream's data, which changes with the data; `form` as in `index_cache`."""
        with fingerprints_in_form(form):
            return {name: stream.source.fingerprint() for name, stream in self._streams.items()}

    def _gather(self) -> Gather | None:
        return None if self.ranks is None else self.ranks()

    def _load(self, gather: Gather | None, step: int) -> Batch:
        """Draw this rank's part of a batch, and collate it after an exchange with the other ranks if there are any."""
        try:
            part = self._draw(step)
        except Exception as error:  # whatever failed, the other ranks wait for these rows
            if gather is not None:
                refuse(step, error, gather)
            raise
        masked = [
            name
            for name in part.drawn
            if not MASKING_LOSSES.isdisjoint(self.data.streams[name].losses_on(step, self.steps))
        ]
        if gather is None:
            return self._collate(part, masked)
        orders = {name: self._streams[name].order for name in part.drawn}
        return join(part, masked, self._collators, orders, self.share.rank, gather)

    def _load_buffered(self, gather: Gather | None, step: int) -> BufferedBatch:
        return to_buffer(self._load(gather, step), shared)

    def _draw(self, step: int) -> Part:
        on = [name for name, stream in self.data.streams.items() if stream.is_on(step, self.steps)]
        draw = StepDraw(self._streams, step, self.image, self.tokenizer, on)
        images = [*draw.images, *chain.from_iterable(draw.videos)]
        pixels = [image for image in images if not isinstance(image, ImageFeatures)]
        stored = [image for image in images if isinstance(image, ImageFeatures)]
        return Part(
            step,
            stack_pixels(pixels) if pixels else None,
            tuple(map(len, draw.videos)),
            draw.rows,
            draw.places,
            list(draw.faults),
            draw.faults.drawn,
            stack_features(stored, self._grid) if stored else None,
        )

    @property
    def _grid(self) -> tuple[int, int]:
        return next(iter(self.features.values())).grid

    def _collate(self, part: Part, masked: Sequence[str]) -> Batch:
        """Collate the rows of a single rank."""
        drawn = {name: rows for name, rows in part.drawn.items() if rows.records}
        rows = {
            name: self._collators[name].rows(
                rows, self._streams[name].order.of_masks(part.step) if name in masked else None
            )
            for name, rows in drawn.items()
        }
        records = {name: list(dict.fromkeys(rows.records)) for name, rows in drawn.items()}
        regions = {
            name: rows.counts
            for name, rows in part.drawn.items()
            if isinstance(rows, DrawnPairs) and rows.counts is not None
        }
        return Batch(
            part.step,
            part.images,
            rows,
            records,
            part.broken,
            part.tried,
            part.videos,
            regions,
            part.features,
        )

    @cached_property
    def _streams(self) -> dict[str, Stream]:
        self.data.limits.apply()
        streams = self.data.streams
        sources = open_sources(config.source for config in streams.values())
        readers = {folder: FeatureReader(folder) for folder in self.features.values()}
        stored = {name: readers[folder] for name, folder in self.features.items()}
        return {
            name: Stream(name, config, source, self.seed, self.share, stored.get(name))
            for (name, config), source in zip(streams.items(), sources, strict=True)
        }

    @cached_property
    def _collators(self) -> dict[str, Collator]:
        return {
            name: Collator(stream.config, self.tokenizer, stream.task, self.teachers.get(name))
            for name, stream in self._streams.items()
        }
