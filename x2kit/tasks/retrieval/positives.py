"""Determine the positives of retrieval queries and the highest reachable R@1. Imports no torch.

M images, T texts. Equal texts get equal scores, and so do equal images, and ties count as misses. So a query whose
positive equals a negative cannot be a hit.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

Positives = Literal["row", "text", "image"]


class PositiveLists(NamedTuple):
    """Positives of each query.

    Attributes:
        of_images: M lists of texts.
        of_texts: T lists of images.
    """

    of_images: list[list[int]]
    of_texts: list[list[int]]


def find_positives(
    positives: Positives, texts: Sequence[str], owners: Sequence[int], images: Sequence[Hashable]
) -> PositiveLists:
    """List the positives of both directions.

    Args:
        positives: `row`: images and texts of one record; `text`: also images with an equal text; `image`: also texts
            of equal images.
        texts: T cleaned texts.
        owners: T images, one for each text.
        images: M values, equal for equal images.
    """
    alike: defaultdict[Hashable, dict[int, None]] = defaultdict(dict)
    if positives == "image":
        for number, image in enumerate(images):
            alike[image][number] = None
        of_texts = [list(alike[images[owner]]) for owner in owners]
    elif positives == "text":
        for text, owner in zip(texts, owners, strict=True):
            alike[text][owner] = None
        of_texts = [list(alike[text]) for text in texts]
    else:
        of_texts = [[owner] for owner in owners]
    of_images: list[list[int]] = [[] for _ in images]
    for text_number, right in enumerate(of_texts):
        for image_number in right:
            of_images[image_number].append(text_number)
    return PositiveLists(of_images, of_texts)


def highest_r1(
    answers: Sequence[Sequence[int]], queries: Sequence[Hashable], candidates: Sequence[Hashable]
) -> float:
    """Compute the highest R@1 of any model: the share of queries that can rank a positive first without a tie.

    Args:
        answers: Q lists of positives.
        queries: Q values; equal queries rank the candidates equally, so they share one first place.
        candidates: C values; equal candidates tie, so all of them must be positives.
    """
    size = Counter(candidates)
    hits: defaultdict[Hashable, Counter[Hashable]] = defaultdict(Counter)
    for query, columns in zip(queries, answers, strict=True):
        right = Counter(candidates[column] for column in columns)
        hits[query].update(value for value, count in right.items() if count == size[value])
    return sum(max(firsts.values(), default=0) for firsts in hits.values()) / len(queries)


def count_shared(texts: Sequence[str], owners: Sequence[int]) -> int:
    """Count the texts that another image also has."""
    pairs = list(zip(texts, owners, strict=True))
    having = Counter(text for text, _ in set(pairs))
    return sum(having[text] > 1 for text, _ in pairs)
