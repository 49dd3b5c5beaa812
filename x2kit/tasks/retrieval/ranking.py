"""Compute ranks and recall from score matrices with pure functions of tensors. Imports torch.

Q queries, C candidates, M images, T texts.

The rank of a query is the number of negatives whose score is at least that of its best positive, so ties count as
misses. Other positives of the query are not counted: an image with five captions can have all of them at rank 0. NaN
compares as the worst score for a positive and as the best one for a negative.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from x2kit.errors import ShapeError

RECALLS = (1, 5, 10)
SCORES_AT_ONCE = 2**22
"""Scores processed at a time, which bounds the memory of ranking and of the search for candidates."""


class ScoreRows(Protocol):
    """Scores [Q, C]: a tensor, or an object that computes rows on access."""

    @property
    def shape(self) -> torch.Size: ...
    @property
    def ndim(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice, /) -> Tensor: ...


class Best(NamedTuple):
    """The best columns of each query.

    Attributes:
        columns: [Q, K] int64, best first; among equal scores negatives come first, as ties count as misses.
        scores: [Q, K], descending.
    """

    columns: Tensor
    scores: Tensor


class Ranked(NamedTuple):
    """Ranks [Q] of the best positives, 0 for the first place, and the best columns if they were asked for."""

    ranks: Tensor
    best: Best | None


def ranks(scores: ScoreRows, answers: Sequence[Sequence[int]], chunk: int | None = None) -> Tensor:
    """Compute the rank of each query's best positive, [Q] int64; arguments as in `ranked`."""
    return ranked(scores, answers, chunk=chunk).ranks


def ranked(
    scores: ScoreRows, answers: Sequence[Sequence[int]], best: int = 0, chunk: int | None = None
) -> Ranked:
    """Compute the rank of each query's best positive, and select its best columns, in one pass over the rows.

    Args:
        scores: [Q, C]; higher is better.
        answers: Q lists of positive columns, at least one each.
        best: number of columns to select, fewer if there are not as many; 0 for none.
        chunk: queries processed at a time, by default as many as `SCORES_AT_ONCE` allows; affects memory only.
    Raises: ShapeError if `answers` does not fit `scores`.
    """
    if scores.ndim != 2 or len(answers) != len(scores):
        raise ShapeError(f"scores {list(scores.shape)} do not fit answers to {len(answers)} queries")
    found, selected = [], []
    chunk = chunk or _rows_at_once(scores)
    for start in range(0, len(scores), chunk):
        part = scores[start : start + chunk]
        right = torch.zeros(part.shape, dtype=torch.bool, device=part.device)
        rows, columns = _positions(answers[start : start + chunk], part.shape[1], start)
        right[rows.to(part.device), columns.to(part.device)] = True
        # amax propagates NaN, and comparisons with NaN are False, so such a row gets the last rank.
        positive = part.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
        found.append((~(part < positive) & ~right).sum(1))
        if best:
            selected.append(_best(part, right, min(best, part.shape[1])))
    return Ranked(
        torch.cat(found) if found else torch.zeros(0, dtype=torch.int64),
        Best(*(torch.cat(parts) for parts in zip(*selected, strict=True))) if selected else None,
    )


def _best(scores: Tensor, right: Tensor, count: int) -> Best:
    """Select the best columns of rows [Q, C], given which are positives."""
    values, columns = scores.nan_to_num(nan=-torch.inf).topk(count, 1)
    # Two stable sorts: by class first, so that it decides between equal scores.
    for key in (right.gather(1, columns).byte(), None):
        order = (
            values.argsort(dim=1, descending=True, stable=True)
            if key is None
            else key.argsort(dim=1, stable=True)
        )
        values, columns = values.gather(1, order), columns.gather(1, order)
    return Best(columns, values)


def _positions(answers: Sequence[Sequence[int]], candidates: int, first: int) -> tuple[Tensor, Tensor]:
    for query, columns in enumerate(answers, first):
        if not columns or not all(0 <= column < candidates for column in columns):
            raise ShapeError(
                f"query {query} has the positives {list(columns)}; expected one or more of 0 to {candidates - 1}"
            )
    rows = [row for row, columns in enumerate(answers) for _ in columns]
    return torch.tensor(rows), torch.tensor([column for columns in answers for column in columns])


def recalls(ranks: Tensor) -> dict[str, float]:
    """Compute R@1, R@5 and R@10 as fractions from ranks [Q]."""
    return {f"r{k}": float((ranks < k).double().mean()) for k in RECALLS}


def chance(answers: Sequence[Sequence[int]], candidates: int) -> float:
    """Compute R@1 of a random order of the candidates: the mean share of positives."""
    return sum(len(columns) for columns in answers) / (len(answers) * candidates)


def chance_recall(answers: Sequence[Sequence[int]], candidates: int, k: int) -> float:
    """Compute R@k of a random order of the candidates: the mean probability of a positive among the first k."""
    counts = Counter(map(len, answers))
    missed = sum(
        times
        * math.prod(
            max(0, candidates - count - place) / (candidates - place) for place in range(min(k, candidates))
        )
        for count, times in counts.items()
    )
    return 1 - missed / len(answers)


def top_candidates(similarity: Tensor, top_k: int) -> Tensor:
    """Select the `top_k` columns of highest similarity in each row, [Q, min(top_k, C)] int64.

    `Tensor.topk` breaks ties at the cut; the number of candidates is fixed.
    """
    count = min(top_k, similarity.shape[1])
    parts = torch.split(similarity, _rows_at_once(similarity))
    return torch.cat([part.topk(count, 1).indices for part in parts])


def candidate_mask(candidates: Tensor, columns: int) -> Tensor:
    """Build a mask [Q, columns] bool that is True at the candidates [Q, K] of each row."""
    chosen = torch.zeros(len(candidates), columns, dtype=torch.bool, device=candidates.device)
    return chosen.scatter_(1, candidates, True)


def _rows_at_once(scores: ScoreRows) -> int:
    return max(1, SCORES_AT_ONCE // max(1, scores.shape[1]))


def rerank(similarity: Tensor, candidates: Tensor, scores: Tensor) -> Tensor:
    """Merge scores so that candidates rank above the rest and the rest keeps its order by similarity.

    Args:
        similarity: [Q, C].
        candidates: [Q, C] bool, at least one a row.
        scores: [Q, C], read where `candidates` is True.
    Returns: [Q, C] float64, comparable within a row.
    """
    # float64 holds the shift of float32 similarities exactly enough to keep their order and their ties.
    similarity, scores = similarity.double(), scores.double()
    lowest = scores.masked_fill(~candidates, torch.inf).amin(1, keepdim=True)
    highest = similarity.masked_fill(candidates, -torch.inf).amax(1, keepdim=True)
    return torch.where(candidates, scores, similarity - highest + lowest - 1)
