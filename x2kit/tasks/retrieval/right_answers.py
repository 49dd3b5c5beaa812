"""Which answers count as right in retrieval, and the highest R@1 they allow. Imports no torch.

M images, T texts. Equal texts get equal scores, and so do equal images; ties count against a query. So a query
whose right answer equals a wrong one can never be a hit.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

Positives = Literal["row", "text", "image"]


class RightAnswers(NamedTuple):
    """Right answers of each query.

    Attributes:
        of_images: M lists of texts.
        of_texts: T lists of images.
    """

    of_images: list[list[int]]
    of_texts: list[list[int]]


def right_answers(
    positives: Positives, texts: Sequence[str], owners: Sequence[int], images: Sequence[Hashable]
) -> RightAnswers:
    """List the right answers of both directions.

    Args:
        positives: `row`: images and texts of one record; `text`: also images that have an equal text; `image`:
            also texts of equal images.
        texts: T texts as the tokenizer gets them.
        owners: T images that the texts belong to.
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
    return RightAnswers(of_images, of_texts)


def highest_r1(
    answers: Sequence[Sequence[int]], queries: Sequence[Hashable], candidates: Sequence[Hashable]
) -> float:
    """Highest R@1 of any model: the share of queries that can have a right answer alone in the first place.

    Args:
        answers: Q lists of right candidates.
        queries: Q values; equal queries rank the candidates equally, so they share one first place.
        candidates: C values; equal candidates tie, so all of them must be right.
    """
    size = Counter(candidates)
    hits: defaultdict[Hashable, Counter[Hashable]] = defaultdict(Counter)
    for query, columns in zip(queries, answers, strict=True):
        right = Counter(candidates[column] for column in columns)
        hits[query].update(value for value, count in right.items() if count == size[value])
    return sum(max(firsts.values(), default=0) for firsts in hits.values()) / len(queries)


def count_shared(texts: Sequence[str], owners: Sequence[int]) -> int:
    """Number of texts that another image has too."""
    pairs = list(zip(texts, owners, strict=True))
    having = Counter(text for text, _ in set(pairs))
    return sum(having[text] > 1 for text, _ in pairs)
