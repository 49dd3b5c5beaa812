"""Collate drawn rows into tensors: tokens, padding, masks, groups of positives. Imports torch."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from x2kit.data.config import StreamConfig
from x2kit.data.pipeline.batch import (
    MaskedTexts,
    PairedRows,
    ParallelRows,
    Regions,
    Rows,
    TaskRows,
    TextRows,
    Whole,
)
from x2kit.data.pipeline.samples import PairSample, RegionTexts
from x2kit.data.pipeline.streams import Drawn, DrawnPairs, DrawnParallel, DrawnTexts
from x2kit.data.pipeline.task_rows import DrawnTask, collate_rows
from x2kit.data.transforms.masking import MaskedIds, mask_texts
from x2kit.objectives.masked_language import IGNORED
from x2kit.plugin.tasks import Task, Texts
from x2kit.plugin.tokenizers import Tokenizer

LENGTH_STEP = 8
"""Texts are padded to the longest of the batch, rounded up to a multiple of this."""


class TeacherTokens(NamedTuple):
    """How a teacher reads texts: its tokenizer, and its maximum number of tokens, special ones included."""

    tokenizer: Tokenizer
    max_length: int


@dataclass(frozen=True)
class Collator:
    """Collate the rows of one stream.

    Args:
        config: of the stream.
        tokenizer: of the text encoder.
        task: of the stream; needed if it computes its own losses.
        teacher: of the stream, if an objective has one.
    """

    config: StreamConfig
    tokenizer: Tokenizer
    task: Task | None = None
    teacher: TeacherTokens | None = None

    def rows(self, drawn: Drawn, rng: Generator | None) -> Rows:
        """Collate rows of any layout; without `rng` no texts are masked."""
        encoded = self.encoded(drawn)
        padded = [pad_texts(texts, self.tokenizer.special.pad, self.config.max_tokens) for texts in encoded]
        if isinstance(drawn, DrawnTask):
            return self.task_rows(drawn, padded)
        return build_rows(
            drawn,
            padded,
            None if rng is None else self._mask(encoded[0], rng),
            group_numbers(self.keys(drawn) or range(len(encoded[0]))),
            self.config.fusion_rows,
            taught=self.taught(drawn),
        )

    def task_rows(self, drawn: DrawnTask, padded: Sequence[Texts]) -> TaskRows:
        """Collate rows of a task; `padded` are their texts, by place in the row."""
        assert self.task is not None
        return collate_rows(self.task, drawn.images, drawn.rows, padded)

    def encoded(self, drawn: Drawn) -> list[list[list[int]]]:
        """Tokenise the texts of all rows: a list of texts for each place in the row (parallel texts have two)."""
        if isinstance(drawn, DrawnTask):
            places = len(drawn.rows[0].texts) if drawn.rows else 0
            return [[row.texts[place] for row in drawn.rows] for place in range(places)]
        if not isinstance(drawn, DrawnParallel):
            return [self.tokenizer.encode(drawn.texts, self.config.max_tokens)]
        texts = [pair.first for pair in drawn.pairs] + [pair.second for pair in drawn.pairs]
        encoded = self.tokenizer.encode(texts, self.config.max_tokens)
        return [encoded[: len(drawn.pairs)], encoded[len(drawn.pairs) :]]

    def taught(self, drawn: Drawn) -> Texts | None:
        """Tokenise the texts of parallel rows in the pivot language for the teacher; None without one."""
        if self.teacher is None or not isinstance(drawn, DrawnParallel):
            return None
        pivot = self.config.pivot
        texts = [pair.first if pair.languages[0] == pivot else pair.second for pair in drawn.pairs]
        tokenizer, longest = self.teacher
        return pad_texts(tokenizer.encode(texts, longest), tokenizer.special.pad, longest)

    def keys(self, drawn: Drawn) -> Sequence[Hashable | PairSample]:
        """Return the keys of positives for `group_numbers`, one per row; empty if every row is its own group."""
        if self.config.positives == "row" or isinstance(drawn, DrawnTexts | DrawnTask):
            return ()
        if isinstance(drawn, DrawnParallel):
            return drawn.pairs
        return drawn.texts if self.config.positives == "text" else drawn.records

    def _mask(self, encoded: Sequence[Sequence[int]], rng: Generator) -> MaskedTexts:
        masked = mask_texts(encoded[: self.config.fusion_rows], rng, self.config.masking, self.tokenizer)
        return stack_masked(masked, self.tokenizer.special.pad, self.config.max_tokens)


def build_rows(
    drawn: Drawn,
    texts: Sequence[Texts],
    masked: MaskedTexts | None,
    group: Tensor,
    fused: int | None,
    whole: Whole | None = None,
    taught: Texts | None = None,
) -> Rows:
    """Build the rows of a stream of any layout; arguments as in `PairedRows`, `texts` has two entries for pairs."""
    if isinstance(drawn, DrawnPairs):
        images = torch.tensor(drawn.images, dtype=torch.int64)
        regions = None if drawn.regions is None else regions_of(drawn.regions)
        return PairedRows(images, texts[0], masked, group, regions, fused, whole)
    if isinstance(drawn, DrawnParallel):
        return ParallelRows(texts[0], texts[1], masked, group, fused, whole, taught)
    assert masked is not None  # a text stream is on only with its masking loss
    return TextRows(texts[0], masked)


def pad_texts(
    encoded: Sequence[Sequence[int]], pad: int, max_tokens: int, longest: int | None = None
) -> Texts:
    """Pad texts to the longest, rounded up to a multiple of 8 but not above `max_tokens`.

    Args:
        encoded: ids of each text.
        pad: id of padding.
        max_tokens: of the stream.
        longest: tokens of the longest text over all ranks; None for the longest of these.
    """
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    longest = int(lengths.max(initial=1)) if longest is None else longest
    width = max(longest, min(-(-longest // LENGTH_STEP) * LENGTH_STEP, max_tokens))
    mask = torch.from_numpy(np.arange(width) < lengths[:, None])
    return Texts(_rectangle(encoded, width, pad), mask, lengths=tuple(lengths.tolist()))


def stack_masked(
    masked: Sequence[MaskedIds], pad: int, max_tokens: int, longest: int | None = None
) -> MaskedTexts:
    """Pad masked texts as `pad_texts` does, and their positions and labels to the most of a row."""
    most = max([len(text.positions) for text in masked] + [1])
    return MaskedTexts(
        pad_texts([text.ids for text in masked], pad, max_tokens, longest).ids,
        _rectangle([text.positions for text in masked], most, 0),
        _rectangle([text.labels for text in masked], most, IGNORED),
    )


def regions_of(regions: RegionTexts) -> Regions:
    """Convert boxes to tensors."""
    bbox = torch.tensor(regions.bbox, dtype=torch.float64).view(-1, 4)
    return Regions(bbox, torch.tensor(regions.whole, dtype=torch.bool))


def group_numbers(keys: Sequence[Hashable | PairSample]) -> Tensor:
    """Number the groups of positives, [B] int64: rows with equal keys, or pairs with a common text."""
    pairs = [key for key in keys if isinstance(key, PairSample)]
    return groups_of_pairs(pairs) if pairs else groups(keys)


def groups(keys: Iterable[Hashable]) -> Tensor:
    """Number rows by key, [B] int64, from 0 in order of first occurrence."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys], dtype=torch.int64)


def groups_of_pairs(pairs: Sequence[PairSample]) -> Tensor:
    """Number the connected components of pairs that share a text in one language, [B] int64.

    Equal words in two languages may differ in meaning, so texts are compared with their language.
    """
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(text: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(text, text)
        while parent[text] != text:
            parent[text] = parent[parent[text]]
            text = parent[text]
        return text

    firsts = [(pair.languages[0], pair.first) for pair in pairs]
    for pair, first in zip(pairs, firsts, strict=True):
        parent[root((pair.languages[1], pair.second))] = root(first)
    return groups(root(first) for first in firsts)


def _rectangle(rows: Sequence[Sequence[int]], width: int, filler: int) -> Tensor:
    filled = [[*row, *[filler] * (width - len(row))] for row in rows]
    return torch.from_numpy(np.array(filled, dtype=np.int64).reshape(len(rows), width))
