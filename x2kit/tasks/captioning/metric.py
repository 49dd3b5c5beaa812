"""Caption metrics: BLEU, ROUGE-L, CIDEr and CIDEr-D, equal to pycocoevalcap 1.2. Imports no torch.

Captions are lists of words; each has at least one reference. An empty caption scores 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from x2kit.errors import DataError

Words = Sequence[str]
NGram = tuple[str, ...]

MAX_N = 4
"""Longest n-grams of BLEU and CIDEr."""
SIGMA = 6.0
"""Width of the length penalty of CIDEr-D, in words."""
BETA = 1.2
"""Weight of recall against precision in ROUGE-L."""
_SMALL, _TINY = 1e-9, 1e-15  # as in pycocoevalcap, so that figures agree to the last digit


class Scores(NamedTuple):
    """A metric of a set of captions.

    Attributes:
        corpus: of the whole set.
        rows: of each caption.
    """

    corpus: float
    rows: list[float]


def n_grams(words: Words) -> Counter[NGram]:
    """Count the n-grams of 1 to 4 words."""
    return Counter(
        tuple(words[start : start + n]) for n in range(1, MAX_N + 1) for start in range(len(words) - n + 1)
    )


def bleu(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[Scores]:
    """Compute BLEU-1 to BLEU-4 (Papineni et al., 2002), in [0, 1].

    Precision is clipped by the reference with most occurrences, the brevity penalty takes the reference closest in
    length (of two as close, the shorter). The corpus value is that of the summed counts, not the mean of the rows.

    Raises: DataError as `require_references`.
    """
    require_references(captions, references)
    matches = [_match(caption, refs) for caption, refs in zip(captions, references, strict=True)]
    total = _Match(
        sum(match.length for match in matches),
        sum(match.closest for match in matches),
        [sum(counts) for counts in zip(*(match.correct for match in matches), strict=True)],
        [sum(counts) for counts in zip(*(match.guesses for match in matches), strict=True)],
    )
    rows = [match.bleu() for match in matches]
    return [
        Scores(corpus, list(row)) for corpus, row in zip(total.bleu(), zip(*rows, strict=True), strict=True)
    ]


class _Match(NamedTuple):
    length: int
    closest: int
    correct: list[int]
    guesses: list[int]

    def bleu(self) -> list[float]:
        product, found = 1.0, []
        for n, (correct, guesses) in enumerate(zip(self.correct, self.guesses, strict=True), 1):
            product *= (correct + _TINY) / (guesses + _SMALL)
            found.append(product ** (1 / n))
        ratio = (self.length + _TINY) / (self.closest + _SMALL)
        penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
        return [value * penalty for value in found]


def _match(caption: Words, references: Sequence[Words]) -> _Match:
    allowed: Counter[NGram] = Counter()
    for reference in references:
        allowed |= n_grams(reference)
    correct = [0] * MAX_N
    for n_gram, count in n_grams(caption).items():
        correct[len(n_gram) - 1] += min(count, allowed[n_gram])
    length = len(caption)
    _, closest = min((abs(len(reference) - length), len(reference)) for reference in references)
    return _Match(length, closest, correct, [max(0, length - n + 1) for n in range(1, MAX_N + 1)])


def rouge_l(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> Scores:
    """Compute ROUGE-L (Lin and Och, 2004), in [0, 1]; the corpus value is the mean.

    Precision and recall are each the best over the references, as in the COCO evaluation.

    Raises: DataError as `require_references`.
    """
    require_references(captions, references)
    rows = []
    for caption, refs in zip(captions, references, strict=True):
        common = [_longest_common(caption, reference) for reference in refs]
        precision = max(common) / len(caption) if caption else 0.0
        recall = max(
            found / len(reference) if reference else 0.0
            for found, reference in zip(common, refs, strict=True)
        )
        weighted = recall + BETA**2 * precision
        rows.append((1 + BETA**2) * precision * recall / weighted if weighted else 0.0)
    return Scores(fmean(rows), rows)


def _longest_common(one: Words, other: Words) -> int:
    """Return the length of the longest common subsequence."""
    best = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for place, candidate in enumerate(other, 1):
            diagonal, best[place] = (
                best[place],
                diagonal + 1 if word == candidate else max(best[place], best[place - 1]),
            )
    return best[-1]


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many images' references each n-gram occurs.

    Attributes:
        documents: number of images.
        counts: images by n-gram; an absent n-gram counts as 1.
    """

    documents: int
    counts: Mapping[NGram, float]

    @classmethod
    def of(cls, references: Iterable[Iterable[Words]]) -> DocumentFrequencies:
        """Count the n-grams of all references of each image once."""
        counts: Counter[NGram] = Counter()
        documents = 0
        for documents, refs in enumerate(references, 1):  # noqa: B007
            counts.update({n_gram for reference in refs for n_gram in n_grams(reference)})
        return cls(documents, counts)

    def vector(self, words: Words) -> _Vector:
        """Weight the n-grams of a text by term frequency and inverse document frequency."""
        log_documents = math.log(self.documents)
        weights: list[dict[NGram, float]] = [{} for _ in range(MAX_N)]
        for n_gram, count in n_grams(words).items():
            log_frequency = math.log(max(1.0, self.counts.get(n_gram, 1.0)))
            weights[len(n_gram) - 1][n_gram] = count * (log_documents - log_frequency)
        norms = [math.sqrt(sum(weight**2 for weight in by_gram.values())) for by_gram in weights]
        return _Vector(weights, norms, max(0, len(words) - 1))


class _Vector(NamedTuple):
    weights: list[dict[NGram, float]]
    norms: list[float]
    length: int  # bigrams: the official length of the penalty


def _clipped(one: _Vector, reference: _Vector) -> float:
    """Sum the similarities of CIDEr-D over n; repeating a word cannot raise them."""
    penalty = math.exp(-((one.length - reference.length) ** 2) / (2 * SIGMA**2))
    return penalty * _cosines(one, reference, min)


def _plain(one: _Vector, reference: _Vector) -> float:
    return _cosines(one, reference, lambda weight, _: weight)


def _cosines(one: _Vector, reference: _Vector, clip: Callable[[float, float], float]) -> float:
    total = 0.0
    for weights, others, norm, other_norm in zip(
        one.weights, reference.weights, one.norms, reference.norms, strict=True
    ):
        product = sum(
            clip(weight, others[n_gram]) * others[n_gram]
            for n_gram, weight in weights.items()
            if n_gram in others
        )
        total += product / (norm * other_norm) if norm and other_norm else product
    return total


def cider_d(
    captions: Sequence[Words],
    references: Sequence[Sequence[Words]],
    frequencies: DocumentFrequencies | None = None,
) -> Scores:
    """Compute CIDEr-D (Vedantam et al., arXiv:1411.5726), in [0, 10]; the corpus value is the mean.

    This is the "CIDEr" of the COCO evaluation and the reward of self-critical training.

    Args:
        captions: one for each image.
        references: at least one for each image.
        frequencies: of the n-grams; by default counted in `references`, where one image alone scores 0.
    Raises: DataError as `require_references`.
    """
    return _cider(captions, references, frequencies, _clipped)


def cider(
    captions: Sequence[Words],
    references: Sequence[Sequence[Words]],
    frequencies: DocumentFrequencies | None = None,
) -> Scores:
    """Compute CIDEr without the clipping and the length penalty of CIDEr-D; arguments as `cider_d`."""
    return _cider(captions, references, frequencies, _plain)


def _cider(
    captions: Sequence[Words],
    references: Sequence[Sequence[Words]],
    frequencies: DocumentFrequencies | None,
    similarity: Callable[[_Vector, _Vector], float],
) -> Scores:
    require_references(captions, references)
    frequencies = frequencies or DocumentFrequencies.of(references)
    rows = []
    for caption, refs in zip(captions, references, strict=True):
        vector = frequencies.vector(caption)
        rows.append(
            10 / MAX_N * fmean(similarity(vector, frequencies.vector(reference)) for reference in refs)
        )
    return Scores(fmean(rows), rows)


def require_references(captions: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    """Raise DataError without captions, for other numbers of both, or for a caption without references."""
    if len(captions) != len(references) or not captions:
        raise DataError(
            f"expected references for each of one or more captions, found {len(captions)} captions and "
            f"references for {len(references)}"
        )
    bare = [row for row, refs in enumerate(references) if not refs]
    if bare:
        raise DataError(
            f"caption {bare[0]} (of {len(bare)}) has no reference; every image needs at least one"
        )
