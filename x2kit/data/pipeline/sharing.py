"""One step's batch made by several processes, each of a share of its records. Imports torch.

The batch is the one that a single process would make: the same records, drawn the same way, with the same masks.
A process reads, decodes and draws the records of its own share; then all tell each other what the rows of the others
need to be known by (`Outline`: places, lengths, ids), and each makes tensors of its own rows. Texts are padded to the
longest of all processes, so that every one calls the model with the same lengths.

B rows of one process, W rows of all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from numpy.random import Generator
from torch import Tensor

from x2kit.data.config import DataConfig
from x2kit.data.pipeline.batch import (
    Batch,
    BrokenRecord,
    MaskedTexts,
    PairedRows,
    ParallelRows,
    RegionImages,
    Rows,
    TextRows,
    Texts,
    Whole,
)
from x2kit.data.pipeline.collation import Collator, group_numbers, pad_texts, regions_of, stack_masked
from x2kit.data.pipeline.order import StreamOrder
from x2kit.data.pipeline.samples import PairSample, RegionTexts
from x2kit.data.pipeline.streams import DrawnPairs, DrawnParallel, DrawnTexts, count_images
from x2kit.data.transforms.masking import draw_masks, mask_drawn
from x2kit.errors import Fault, RecipeError

Drawn: TypeAlias = DrawnPairs | DrawnParallel | DrawnTexts
Gather = Callable[[Any], list[Any]]
"""What each process has, by rank."""


def require_shares(data: DataConfig, processes: int) -> None:
    """Raise RecipeError if a stream has fewer records a step than there are processes. Uneven shares are fine."""
    faults = [
        Fault(
            f"data.streams.{name}.{'max_images' if stream.kind == 'region-text' else 'batch_size'}",
            "",
            f"{stream.records_a_step} records a step cannot be shared by {processes} processes; each takes one or more",
        )
        for name, stream in data.streams.items()
        if stream.images_from is None and stream.records_a_step < processes
    ]
    if faults:
        raise RecipeError(faults)


class Part(NamedTuple):
    """What one process draws of a step.

    Attributes:
        step: number of the step.
        images, videos: as in `Batch`, of this process alone.
        drawn: rows by stream, all that are on, even where this process has none.
        places: of each row of each stream, the place in the step of the record it comes from.
        broken, tried: records that were skipped, and how many were tried.
    """

    step: int
    images: Tensor | None
    videos: tuple[int, ...]
    drawn: dict[str, Drawn]
    places: dict[str, list[int]]
    broken: list[BrokenRecord]
    tried: int


class Outline(NamedTuple):
    """What the others need to know of the rows of one process in one stream; one entry a row.

    Attributes:
        places: in the step, of the row's record.
        records: ids.
        lengths: tokens of the text, or of both texts.
        images: number of the image among those of its process; nothing for texts.
        keys: what tells whether two rows are right answers to each other.
        counts: images that a region stream drew here.
    """

    places: list[int]
    records: list[str]
    lengths: list[list[int]]
    all_images: list[int]
    keys: Sequence[Any]
    counts: RegionImages | None = None


class _SharedRows(NamedTuple):
    """The message of one process."""

    outlines: dict[str, Outline]
    broken: list[BrokenRecord]
    tried: int


class Joined(NamedTuple):
    """The rows of all processes in the order that one process would give them.

    Attributes:
        owners: [W], rank of the process and number of the row there, before any is left out.
        own: numbers in the whole of the rows of this process.
        kept: their numbers in the process, before any is left out.
    """

    owners: list[tuple[int, int]]
    own: list[int]
    kept: list[int]


def join(
    part: Part,
    on: Sequence[str],
    collators: Mapping[str, Collator],
    orders: Mapping[str, StreamOrder],
    rank: int,
    gather: Gather,
) -> Batch:
    """This process's rows of a step's batch.

    Args:
        part: what this process has drawn.
        on: streams that need masked texts.
        collators, orders: by stream.
        rank: of this process.
        gather: over all processes, which call this for the same step.
    """
    encoded = {name: collators[name].encoded(drawn) for name, drawn in part.drawn.items()}
    outlines = {
        name: _outline(collators[name], drawn, part.places[name], encoded[name])
        for name, drawn in part.drawn.items()
    }
    told: list[_SharedRows] = gather(_SharedRows(outlines, part.broken, part.tried))
    streams: dict[str, Rows] = {}
    records: dict[str, list[str]] = {}
    regions: dict[str, RegionImages] = {}
    for name, drawn in part.drawn.items():
        of_all = [other.outlines[name] for other in told]
        config = collators[name].config
        most = config.batch_size if config.kind == "region-text" else None
        joined = _joined([outline.places for outline in of_all], most, orders[name].of_rows(part.step), rank)
        if isinstance(drawn, DrawnPairs) and drawn.counts is not None:
            regions[name] = _images_of_all(of_all, joined)
        if not joined.owners:
            continue
        maker = _Maker(collators[name], joined, of_all, rank)
        rng = orders[name].of_masks(part.step) if name in on else None
        streams[name] = maker.rows(drawn, encoded[name], rng)
        records[name] = list(dict.fromkeys(of_all[r].records[row] for r, row in joined.owners))
    broken = [fault for other in told for fault in other.broken]
    tried = sum(other.tried for other in told)
    return Batch(part.step, part.images, streams, records, broken, tried, part.videos, regions)


def _images_of_all(outlines: Sequence[Outline], joined: Joined) -> RegionImages:
    counts = [outline.counts for outline in outlines if outline.counts is not None]
    drawn = RegionImages(sum(one.drawn for one in counts), sum(one.broken for one in counts))
    return count_images(
        drawn,
        [(rank, image) for rank, outline in enumerate(outlines) for image in outline.all_images],
        [(rank, outlines[rank].all_images[row]) for rank, row in joined.owners],
        [outlines[rank].records[row] for rank, row in joined.owners],
    )


def _outline(
    collator: Collator, drawn: Drawn, places: list[int], encoded: Sequence[Sequence[Sequence[int]]]
) -> Outline:
    all_images = drawn.images if isinstance(drawn, DrawnPairs) else []
    lengths = [[len(ids) for ids in side] for side in encoded]
    counts = drawn.counts if isinstance(drawn, DrawnPairs) else None
    return Outline(places, drawn.records, lengths, all_images, collator.keys(drawn), counts)


def _joined(places: Sequence[Sequence[int]], most: int | None, rng: Generator, rank: int) -> Joined:
    """Rows by the places of their records; of more than `most` as many as the generator of the step chooses."""
    rows = [(place, r, row) for r, own in enumerate(places) for row, place in enumerate(own)]
    rows.sort()
    if most is not None and len(rows) > most:
        rows = [rows[number] for number in sorted(rng.permutation(len(rows))[:most].tolist())]
    owners = [(r, row) for _, r, row in rows]
    own = [number for number, (r, _) in enumerate(owners) if r == rank]
    return Joined(owners, own, [owners[number][1] for number in own])


class _Maker:
    """Makes the rows of one stream in one step."""

    def __init__(self, collator: Collator, joined: Joined, outlines: Sequence[Outline], rank: int) -> None:
        self._collator = collator
        self._config = collator.config
        self._pad = collator.tokenizer.special.pad
        self._joined = joined
        self._outlines = outlines
        self._rank = rank
        limit = len(joined.owners) if self._config.fusion_rows is None else self._config.fusion_rows
        self._fused = min(limit, len(joined.owners))
        self._own_fused = [number for number in joined.own if number < self._fused]

    def rows(self, drawn: Drawn, encoded: Sequence[list[list[int]]], rng: Generator | None) -> Rows:
        """Tensors of the rows; `rng` draws the masks of the whole, None leaves them out."""
        kept = self._joined.kept
        sides = [[side[row] for row in kept] for side in encoded]
        padded = [self._padded(side, number) for number, side in enumerate(sides)]
        masked = None if rng is None else self._masked(sides[0], rng)
        whole = self._whole()
        fused = None if self._config.fusion_rows is None else len(self._own_fused)
        own = whole.group[whole.numbers]
        if isinstance(drawn, DrawnPairs):
            images = torch.tensor([drawn.images[row] for row in kept], dtype=torch.int64)
            regions = None if drawn.regions is None else regions_of(_picked(drawn.regions, kept))
            return PairedRows(images, padded[0], masked, own, regions, fused, whole)
        if isinstance(drawn, DrawnParallel):
            return ParallelRows(padded[0], padded[1], masked, own, fused, whole)
        if masked is None:
            raise ValueError("a text stream has masked language modelling alone")
        return TextRows(padded[0], masked)

    def _padded(self, side: Sequence[Sequence[int]], number: int) -> Texts:
        return pad_texts(side, self._pad, self._config.max_tokens, max(self._lengths(number)))

    def _masked(self, side: Sequence[Sequence[int]], rng: Generator) -> MaskedTexts:
        longest = max(self._lengths(0)[: self._fused])
        draws = draw_masks(rng, self._fused, longest)[self._own_fused]
        texts = side[: len(self._own_fused)]
        masked = mask_drawn(texts, draws, self._config.masking, self._collator.tokenizer)
        return stack_masked(masked, self._pad, self._config.max_tokens, longest)

    def _lengths(self, side: int) -> list[int]:
        """[W], tokens of each row of all processes."""
        return [self._outlines[rank].lengths[side][row] for rank, row in self._joined.owners]

    def _whole(self) -> Whole:
        counts = [0] * len(self._outlines)
        rows = []
        for rank, _ in self._joined.owners:  # what is left out has no number
            rows.append(counts[rank])
            counts[rank] += 1
        ranks = [rank for rank, _ in self._joined.owners]
        starts = [sum(counts[:rank]) for rank in range(len(counts))]
        all_images = [
            self._outlines[rank].all_images[row] if self._outlines[rank].all_images else -1
            for rank, row in self._joined.owners
        ]
        keys: list[Hashable | PairSample] = [
            self._outlines[rank].keys[row] if self._outlines[rank].keys else number
            for number, (rank, row) in enumerate(self._joined.owners)
        ]
        return Whole(
            torch.tensor(self._joined.own, dtype=torch.int64),
            torch.tensor([starts[rank] + row for rank, row in zip(ranks, rows, strict=True)]),
            torch.tensor(ranks),
            torch.tensor(rows),
            torch.tensor(all_images),
            group_numbers(keys),
            self._fused,
        )


def _picked(regions: RegionTexts, rows: Sequence[int]) -> RegionTexts:
    return RegionTexts(*([values[row] for row in rows] for values in regions))  # type: ignore[arg-type]
