"""Make one step's batch on several ranks, each reading a share of its records. Imports torch.

The batch is the one that a single process would make: the same records, samples and masks. Each rank reads, decodes
and draws the records of its share; the ranks then all-gather an `Outline` of their rows (positions, lengths, ids), and
each collates its own rows. Texts are padded to the longest of all ranks, so that every rank calls the model with the
same lengths.

B rows of one rank, W rows of all ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from numpy.random import Generator
from torch import Tensor

from x2kit.data.config import DataConfig
from x2kit.data.pipeline.batch import (
    Batch,
    BrokenRecord,
    MaskedTexts,
    RegionImages,
    Rows,
    Whole,
)
from x2kit.data.pipeline.collation import Collator, build_rows, group_numbers, pad_texts, stack_masked
from x2kit.data.pipeline.order import StreamOrder
from x2kit.data.pipeline.samples import PairSample
from x2kit.data.pipeline.streams import Drawn, DrawnPairs, DrawnParallel, count_images
from x2kit.data.pipeline.task_rows import DrawnTask
from x2kit.data.transforms.masking import draw_masks, mask_drawn
from x2kit.distributed.worker_ranks import RankGone
from x2kit.errors import Fault, RecipeError
from x2kit.plugin.encoders import VisionFeatures

Gather = Callable[[Any], list[Any]]
"""All-gathers an object; the results are in the order of ranks."""


def require_shares(data: DataConfig, processes: int) -> None:
    """Raise RecipeError if a stream has fewer records per step than there are ranks; uneven shares are fine."""
    faults = [
        Fault(
            f"data.streams.{name}.{'task' if stream.layout == 'boxes' else 'batch_size'}",
            "",
            f"{stream.records_a_step} records a step cannot be shared by {processes} processes; each needs at least 1",
        )
        for name, stream in data.streams.items()
        if stream.image_stream is None and stream.records_a_step < processes
    ]
    if faults:
        raise RecipeError(faults)


class Part(NamedTuple):
    """The samples that one rank drew for a step.

    Attributes:
        step: number of the step.
        images, videos, features: as in `Batch`, of this rank only.
        drawn: rows by stream, for all streams that are on, also without rows.
        places: by stream, for each row the position in the step of its record.
        broken, tried: skipped records, and the number of records drawn.
    """

    step: int
    images: Tensor | None
    videos: tuple[int, ...]
    drawn: dict[str, Drawn]
    places: dict[str, list[int]]
    broken: list[BrokenRecord]
    tried: int
    features: VisionFeatures | None = None


class Outline(NamedTuple):
    """Description of one rank's rows of a stream for the other ranks; one entry per row.

    Attributes:
        places: position in the step of the row's record.
        records: ids.
        lengths: tokens of the rows, a list for each text of a row (parallel texts have two).
        images: index of the row's image on its rank; empty for texts.
        keys: of positives, see `Collator.keys`.
        counts: of the images that a stream of boxes drew on this rank.
    """

    places: list[int]
    records: list[str]
    lengths: list[list[int]]
    images: list[int]
    keys: Sequence[Any]
    counts: RegionImages | None = None


class _Message(NamedTuple):
    """The object that each rank sends to all others."""

    step: int
    outlines: dict[str, Outline]
    broken: list[BrokenRecord]
    tried: int


class _Refusal(NamedTuple):
    """What a rank sends that failed: the step, and the message of its error."""

    step: int
    message: str


def join(
    part: Part,
    masked: Sequence[str],
    collators: Mapping[str, Collator],
    orders: Mapping[str, StreamOrder],
    rank: int,
    gather: Gather,
) -> Batch:
    """Exchange outlines with the other ranks and collate this rank's rows of the batch.

    Args:
        part: samples of this rank.
        masked: streams that need masked texts.
        collators, orders: by stream.
        rank: of this process.
        gather: over all ranks, which call this for the same step.
    """
    encoded = {name: collators[name].encoded(drawn) for name, drawn in part.drawn.items()}
    outlines = {
        name: _outline(collators[name], drawn, part.places[name], encoded[name])
        for name, drawn in part.drawn.items()
    }
    messages = _exchange(_Message(part.step, outlines, part.broken, part.tried), gather)
    streams: dict[str, Rows] = {}
    records: dict[str, list[str]] = {}
    regions: dict[str, RegionImages] = {}
    for name, drawn in part.drawn.items():
        of_ranks = [message.outlines[name] for message in messages]
        config = collators[name].config
        limit = config.batch_size if config.layout == "boxes" else None
        owners = _owners([outline.places for outline in of_ranks], limit, orders[name].of_rows(part.step))
        if isinstance(drawn, DrawnPairs) and drawn.counts is not None:
            regions[name] = _count_images(of_ranks, owners)
        if not owners:
            continue
        rng = orders[name].of_masks(part.step) if name in masked else None
        streams[name] = _RankCollator(collators[name], owners, of_ranks, rank).rows(drawn, encoded[name], rng)
        records[name] = list(dict.fromkeys(of_ranks[owner].records[row] for owner, row in owners))
    broken = [fault for message in messages for fault in message.broken]
    tried = sum(message.tried for message in messages)
    return Batch(part.step, part.images, streams, records, broken, tried, part.videos, regions, part.features)


def refuse(step: int, error: Exception, gather: Gather) -> None:
    """Tell the other ranks, which call `join` for the same step, that this one has no part of it."""
    with suppress(RankGone):  # the error is reported, not its consequences
        gather(_Refusal(step, str(error)))


def _exchange(message: _Message, gather: Gather) -> list[_Message]:
    """Gather the messages of all ranks. Raises RankGone if one of them has none for this step."""
    found: list[_Message] = []
    for rank, other in enumerate(gather(message)):
        if isinstance(other, _Refusal):
            raise RankGone(f"rank {rank} failed to prepare step {other.step + 1}: {other.message}")
        if other.step != message.step:
            raise RankGone(f"rank {rank} prepares step {other.step + 1} in place of step {message.step + 1}")
        found.append(other)
    return found


def _outline(
    collator: Collator, drawn: Drawn, places: list[int], encoded: Sequence[Sequence[Sequence[int]]]
) -> Outline:
    images, counts = (drawn.images, drawn.counts) if isinstance(drawn, DrawnPairs) else ([], None)
    lengths = [[len(ids) for ids in side] for side in encoded]
    return Outline(places, drawn.records, lengths, images, collator.keys(drawn), counts)


def _owners(places: Sequence[Sequence[int]], limit: int | None, rng: Generator) -> list[tuple[int, int]]:
    """Return rank and index there of the W rows, in order of their records; at most `limit`, selected by `rng`."""
    rows = sorted((place, rank, row) for rank, own in enumerate(places) for row, place in enumerate(own))
    if limit is not None and len(rows) > limit:
        rows = [rows[number] for number in sorted(rng.permutation(len(rows))[:limit].tolist())]
    return [(rank, row) for _, rank, row in rows]


def _count_images(outlines: Sequence[Outline], owners: Sequence[tuple[int, int]]) -> RegionImages:
    counts = [outline.counts for outline in outlines if outline.counts is not None]
    drawn = RegionImages(sum(one.drawn for one in counts), sum(one.broken for one in counts))
    return count_images(
        drawn,
        [(rank, image) for rank, outline in enumerate(outlines) for image in outline.images],
        [(rank, outlines[rank].images[row]) for rank, row in owners],
        [outlines[rank].records[row] for rank, row in owners],
    )


class _RankCollator:
    """Collate one rank's rows of a stream, padded and masked as part of the rows of all ranks.

    Args:
        collator: of the stream.
        owners: [W], rank and index there of each row.
        outlines: of each rank.
        rank: whose rows are collated.
    """

    def __init__(
        self, collator: Collator, owners: Sequence[tuple[int, int]], outlines: Sequence[Outline], rank: int
    ) -> None:
        self._collator = collator
        self._config = collator.config
        self._pad = collator.tokenizer.special.pad
        self._owners = owners
        self._outlines = outlines
        self._numbers = [number for number, (owner, _) in enumerate(owners) if owner == rank]
        self._kept = [owners[number][1] for number in self._numbers]
        limit = len(owners) if self._config.fusion_rows is None else self._config.fusion_rows
        self._fused = min(limit, len(owners))
        self._own_fused = [number for number in self._numbers if number < self._fused]

    def rows(self, drawn: Drawn, encoded: Sequence[list[list[int]]], rng: Generator | None) -> Rows:
        """Collate the rows; `rng` draws the masks of all W rows, None masks nothing."""
        kept = self._kept
        sides = [[side[row] for row in kept] for side in encoded]
        padded = [
            pad_texts(texts, self._pad, self._config.max_tokens, max(self._lengths(side)))
            for side, texts in enumerate(sides)
        ]
        if isinstance(drawn, DrawnTask):
            kept_rows = [drawn.rows[row] for row in kept]
            images = [drawn.images[row] for row in kept]
            return self._collator.task_rows(drawn._replace(images=images, rows=kept_rows), padded)
        whole = self._whole()
        if isinstance(drawn, DrawnParallel):
            drawn = drawn._replace(pairs=[drawn.pairs[row] for row in kept])
        if isinstance(drawn, DrawnPairs):
            regions = None if drawn.regions is None else drawn.regions.select(kept)
            drawn = drawn._replace(images=[drawn.images[row] for row in kept], regions=regions)
        return build_rows(
            drawn,
            padded,
            None if rng is None else self._masked(sides[0], rng),
            whole.group[whole.numbers],
            None if self._config.fusion_rows is None else len(self._own_fused),
            whole,
            self._collator.taught(drawn),
        )

    def _masked(self, texts: Sequence[Sequence[int]], rng: Generator) -> MaskedTexts:
        longest = max(self._lengths(0)[: self._fused])
        draws = draw_masks(rng, self._fused, longest)[self._own_fused]
        own = texts[: len(self._own_fused)]
        masked = mask_drawn(own, draws, self._config.masking, self._collator.tokenizer)
        return stack_masked(masked, self._pad, self._config.max_tokens, longest)

    def _lengths(self, side: int) -> list[int]:
        """Return the tokens of each of the W rows."""
        return [self._outlines[rank].lengths[side][row] for rank, row in self._owners]

    def _whole(self) -> Whole:
        counts = [0] * len(self._outlines)
        rows = []
        for rank, _ in self._owners:  # rows above the limit are not numbered
            rows.append(counts[rank])
            counts[rank] += 1
        ranks = [rank for rank, _ in self._owners]
        starts = [0, *accumulate(counts)]
        images = [
            self._outlines[rank].images[row] if self._outlines[rank].images else -1
            for rank, row in self._owners
        ]
        num_fused, num_images = [0] * len(counts), [0] * len(counts)
        for number, (rank, image) in enumerate(zip(ranks, images, strict=True)):
            num_fused[rank] += number < self._fused
            num_images[rank] = max(num_images[rank], image + 1)
        keys: list[Hashable | PairSample] = [
            self._outlines[rank].keys[row] if self._outlines[rank].keys else number
            for number, (rank, row) in enumerate(self._owners)
        ]
        return Whole(
            torch.tensor(self._numbers, dtype=torch.int64),
            torch.tensor([starts[rank] + row for rank, row in zip(ranks, rows, strict=True)]),
            torch.tensor(ranks),
            torch.tensor(rows),
            torch.tensor(images),
            group_numbers(keys),
            self._fused,
            tuple(counts),
            tuple(num_fused),
            tuple(num_images),
        )
