"""Re-ranked scores, stored for candidates only and expanded to all pairs row by row. Imports torch.

Q queries, C answers, K candidates of a query, P distinct pairs of both directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.tasks.retrieval.ranking import candidate_mask, rerank, top_candidates


class Candidates(NamedTuple):
    """The candidates of both directions.

    Attributes:
        of_images: [M, K] int64, texts.
        of_texts: [T, K] int64, images.
        pairs: [P, 2] int64, image and text of each pair that is a candidate in one direction or both, sorted.
        places: positions in `pairs` of the candidates of each image [M, K] and of each text [T, K].
    """

    of_images: Tensor
    of_texts: Tensor
    pairs: Tensor
    places: tuple[Tensor, Tensor]


def select_candidates(similarity: Tensor, top_k: int) -> Candidates:
    """Select the `top_k` texts of each image and images of each text by similarity [M, T]."""
    of_images, of_texts = top_candidates(similarity, top_k), top_candidates(similarity.T, top_k)
    count = similarity.shape[1]
    images, texts = (torch.arange(size)[:, None] for size in similarity.shape)
    numbers = of_images + images * count, of_texts * count + texts
    distinct, places = torch.unique(torch.cat([each.flatten() for each in numbers]), return_inverse=True)
    first, second = places.split([each.numel() for each in numbers])
    return Candidates(
        of_images,
        of_texts,
        torch.stack([distinct // count, distinct % count], 1),
        (first.view_as(of_images), second.view_as(of_texts)),
    )


@dataclass(frozen=True)
class RerankedRows:
    """Scores [Q, C] of one direction; `rows[start:stop]` computes a slice of them.

    Attributes:
        similarity: [Q, C], orders the pairs that are not candidates.
        candidates: [Q, K] int64.
        scores: [Q, K], of the candidates.
        rest: single score of the other pairs; None orders them by similarity.
        temperature: divides the similarity.
    """

    similarity: Tensor
    candidates: Tensor
    scores: Tensor
    rest: float | None
    temperature: float | Tensor = 1.0

    @property
    def shape(self) -> torch.Size:
        """(Q, C)."""
        return self.similarity.shape

    @property
    def ndim(self) -> int:
        """Two."""
        return self.similarity.ndim

    def __len__(self) -> int:
        return len(self.similarity)

    def __getitem__(self, rows: slice) -> Tensor:
        similarity, candidates = self.similarity[rows], self.candidates[rows]
        chosen = candidate_mask(candidates, similarity.shape[1])
        scores = torch.zeros_like(similarity).scatter_(1, candidates, self.scores[rows])
        if self.rest is not None:
            return torch.where(chosen, scores, self.rest)
        return rerank(similarity / self.temperature, chosen, scores)
