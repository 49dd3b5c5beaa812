"""Ranks and recalls from score matrices: pure functions of tensors. Imports torch.

Q queries, C candidates, M images, T texts.

The rank of a query is the number of wrong candidates that its best right answer does not beat: those of a higher
score and those of an equal one, so ties count against us. Other right answers of the query are not counted, so a
image with five captions can have all of them at rank 0. A score that is not a number beats nothing and is beaten
by nothing: as a right answer it is last, as a wrong one it stands in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from x2kit.errors import ShapeError

RECALLS = (1, 5, 10)
SCORES_AT_ONCE = 2**22
"""Of which ranks or candidates are looked for, so that the memory for it does not grow with the square of a set."""


class ScoreRows(Protocol):
    """Scores [Q, C]: a tensor, or what makes some rows of one when they are asked for."""

    @property
    def shape(self) -> torch.Size: ...
    @property
    def ndim(self) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice, /) -> Tensor: ...


def ranks(scores: ScoreRows, answers: Sequence[Sequence[int]], chunk: int | None = None) -> Tensor:
    """The rank of each query's best right answer, 0 for the first place.

    Args:
        scores: [Q, C]; higher is better.
        answers: Q lists of columns that are right, at least one each.
        chunk: queries at a time, by default those of `SCORES_AT_ONCE`; changes nothing but the memory that is needed.
    Returns: [Q] int64.
    Raises: ShapeError if `answers` does not fit `scores`.
    """
    if scores.ndim != 2 or len(answers) != len(scores):
        raise ShapeError(f"scores {list(scores.shape)} do not fit answers to {len(answers)} queries")
    found = []
    chunk = chunk or _rows_at_once(scores)
    for start in range(0, len(scores), chunk):
        part = scores[start : start + chunk]
        right = torch.zeros(part.shape, dtype=torch.bool, device=part.device)
        rows, columns = _positions(answers[start : start + chunk], part.shape[1], start)
        right[rows.to(part.device), columns.to(part.device)] = True
        # amax hands on a NaN, and no comparison with NaN holds, so such a row comes out last.
        best = part.masked_fill(~right, -torch.inf).amax(1, keepdim=True)
        found.append((~(part < best) & ~right).sum(1))
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.int64)


def _positions(answers: Sequence[Sequence[int]], candidates: int, first: int) -> tuple[Tensor, Tensor]:
    for query, columns in enumerate(answers, first):
        if not columns or not all(0 <= column < candidates for column in columns):
            raise ShapeError(
                f"query {query} has the right answers {list(columns)}; expected one or more of 0 to {candidates - 1}"
            )
    rows = [row for row, columns in enumerate(answers) for _ in columns]
    return torch.tensor(rows), torch.tensor([column for columns in answers for column in columns])


def recalls(ranks: Tensor) -> dict[str, float]:
    """R@1, R@5 and R@10 as fractions: the share of ranks [Q] below 1, 5 and 10."""
    return {f"r{k}": float((ranks < k).double().mean()) for k in RECALLS}


def chance(answers: Sequence[Sequence[int]], candidates: int) -> float:
    """R@1 of a random order of the candidates: the mean share of right ones."""
    return sum(len(columns) for columns in answers) / (len(answers) * candidates)


def top_candidates(similarity: Tensor, top_k: int) -> Tensor:
    """The candidates of each query: the `top_k` columns of highest similarity in each row, [Q, min(top_k, C)] int64.

    A tie at the edge is decided by topk; the number of candidates never is.
    """
    count = min(top_k, similarity.shape[1])
    parts = torch.split(similarity, _rows_at_once(similarity))
    return torch.cat([part.topk(count, 1).indices for part in parts])


def candidate_mask(candidates: Tensor, columns: int) -> Tensor:
    """[Q, columns] bool, True at the candidates [Q, K] of each row."""
    chosen = torch.zeros(len(candidates), columns, dtype=torch.bool, device=candidates.device)
    return chosen.scatter_(1, candidates, True)


def _rows_at_once(scores: ScoreRows) -> int:
    return max(1, SCORES_AT_ONCE // max(1, scores.shape[1]))


def rerank(similarity: Tensor, candidates: Tensor, scores: Tensor) -> Tensor:
    """Scores of all pairs in which candidates stand above the rest, and the rest keeps its order by similarity.

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
