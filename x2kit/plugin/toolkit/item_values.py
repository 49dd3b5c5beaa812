"""Values of the single items of an evaluation, such as the rank of each query. Imports no torch.

A task gives them to `TaskContext.save_items`; they are written beside the result, and `x2kit results` compares runs
item by item with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RANKED = 100
"""Documents of a query in a saved ranking."""


@dataclass(frozen=True)
class Ranking:
    """The best documents of each query, for files of TREC.

    Attributes:
        documents: ids of all C candidates.
        columns: [Q, K] int, the best documents of each query by position in `documents`, best first; among equal scores
            those that are not relevant come first.
        scores: [Q, K] float, descending.
        relevant: of each query, the positions in `documents` of the relevant ones.
    """

    documents: Sequence[str]
    columns: Any
    scores: Any
    relevant: Sequence[Sequence[int]]


@dataclass(frozen=True)
class ItemValues:
    """Values of the queries, regions or questions of one language.

    Attributes:
        language: its code.
        path: of the numbers in the task's result whose items these are, such as "scores.en": the mean of
            `values["accuracy"]` is the number `scores.en.accuracy`. The first metric is the main one.
        ids: of the items; equal in every run that measures the same records.
        values: a number for each item by metric; None for an item that is not scored. A metric that is no mean over
            items is left out.
        part: what the items are, if the task has several kinds: "image_to_text".
        records: the record of each item; items of a record are not independent. `ids` by default.
        chance: the mean of a random answer by metric, where it is known.
        candidates: number of documents of a query.
        ranking: the documents of each query.
    """

    language: str
    path: str
    ids: Sequence[str]
    values: Mapping[str, Sequence[float | None]]
    part: str = ""
    records: Sequence[str] | None = None
    chance: Mapping[str, float] = field(default_factory=dict)
    candidates: int | None = None
    ranking: Ranking | None = None


def save_no_items(values: ItemValues) -> None:
    """Save nothing; `TaskContext.save_items` where an evaluation keeps no items."""
