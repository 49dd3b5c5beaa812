"""Bootstrap intervals, paired randomisation tests and Holm's correction. Imports no torch.

U records, K columns of items (one language and metric), J statistics, each a mean of columns.

Items of a record are not independent: the captions of an image share the image, and so do its translations. So a
resample draws records, and a permutation exchanges two runs for all items of a record at once (cluster bootstrap and
cluster permutation; Noreen, Computer-Intensive Methods for Testing Hypotheses, 1989; Smucker et al., CIKM 2007).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
_AT_ONCE = 2**22
"""Random numbers drawn at a time, which bounds memory."""
_SAME = 1e-10
"""Permutations as extreme as the observation up to rounding count as extreme."""


class Columns(NamedTuple):
    """Values of items, summed by record.

    Attributes:
        sums: [U, K] of the values of each record.
        counts: [U, K] number of its items.
    """

    sums: Array
    counts: Array

    def means(self) -> Array:
        """Mean over items of each column, [K]."""
        mean: Array = self.sums.sum(0) / self.counts.sum(0)
        return mean


class Interval(NamedTuple):
    """Bounds of a statistic."""

    low: float
    high: float


def bootstrap(
    columns: Sequence[Columns], means_of: Array, samples: int, seed: int, confidence: float
) -> list[list[Interval]]:
    """Compute percentile intervals of the statistics of one run, or of the difference of two.

    Args:
        columns: of one run; or of two, of the same records and items, for second minus first.
        means_of: [K, J], the weight of each column in each statistic.
        samples: number of resamples.
        seed: of the resamples.
        confidence: such as 0.95.
    Returns: for each statistic one interval for each of `columns`, and the interval of the difference if there are two.
    """
    records = len(columns[0].sums)
    stacked = np.hstack([array for one in columns for array in one])
    kinds = len(columns[0].sums.T)
    drawn: list[list[Array]] = [[] for _ in range(len(columns) + (len(columns) == 2))]
    for weights in _resamples(records, samples, seed):
        totals = weights @ stacked
        found = []
        for number in range(len(columns)):
            start = 2 * number * kinds
            sums, counts = totals[:, start : start + kinds], totals[:, start + kinds : start + 2 * kinds]
            with np.errstate(invalid="ignore", divide="ignore"):  # a resample without an item of a language
                found.append((sums / counts) @ means_of)
        if len(found) == 2:
            found.append(found[1] - found[0])
        for place, one in zip(drawn, found, strict=True):
            place.append(one)
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    bounds = [np.nanquantile(np.concatenate(one), tails, axis=0).T for one in drawn]
    return [[Interval(*map(float, one[place])) for one in bounds] for place in range(means_of.shape[1])]


def _resamples(records: int, samples: int, seed: int) -> Iterator[Array]:
    """Yield how often each record is drawn, [chunk, U]."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _AT_ONCE // records)
    for start in range(0, samples, chunk):
        rows = min(chunk, samples - start)
        drawn = rng.integers(0, records, (rows, records)) + records * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * records).reshape(rows, records).astype(float)


class Randomisation(NamedTuple):
    """A paired randomisation test.

    Attributes:
        p: two-sided, of each statistic.
        permutations: number of them; all that exist if `exact`.
        exact: whether all were tried.
    """

    p: list[float]
    permutations: int
    exact: bool


def randomisation_test(differences: Array, permutations: int, seed: int) -> Randomisation:
    """Test that the runs are exchangeable: swap them for random records, and count differences as large.

    Args:
        differences: [U, J], contribution of each record to each statistic, which is their sum.
        permutations: number of random ones; all are tried, and none at random, if there are not more.
        seed: of the permutations.
    Returns: p = (1 + number as extreme) / (1 + permutations), or the exact share.
    """
    records = len(differences)
    observed = np.abs(differences.sum(0))
    limit = observed - _SAME * np.maximum(1, observed)
    exact = records <= 60 and 2**records <= permutations
    extreme = np.zeros(differences.shape[1], dtype=np.int64)
    for signs in _all_signs(records) if exact else _random_signs(records, permutations, seed):
        extreme += (np.abs(signs @ differences) >= limit).sum(0)
    total = 2**records if exact else permutations
    p = extreme / total if exact else (1 + extreme) / (1 + total)
    return Randomisation([float(each) for each in p], total, exact)


def _all_signs(records: int) -> Iterator[Array]:
    numbers = np.arange(2**records)[:, None]
    yield 1.0 - 2.0 * ((numbers >> np.arange(records)) & 1).astype(np.float64)


def _random_signs(records: int, permutations: int, seed: int) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    chunk = max(1, _AT_ONCE // records)
    for start in range(0, permutations, chunk):
        rows = min(chunk, permutations - start)
        yield 1.0 - 2.0 * rng.integers(0, 2, (rows, records), dtype=np.int8).astype(np.float64)


def contributions(first: Columns, second: Columns, means_of: Array) -> Array:
    """Compute what each record contributes to the differences of the statistics, second minus first, [U, J]."""
    share: Array = (second.sums - first.sums) / first.counts.sum(0)
    found: Array = share @ means_of
    return found


def exact_bound(records: int, all_hit: bool, confidence: float) -> Interval:
    """Compute the Clopper-Pearson interval of a share that is 0 or 1, where resamples do not vary.

    Args:
        records: number of independent trials.
        all_hit: whether the share is 1.
        confidence: such as 0.95.
    """
    reach = float(((1 - confidence) / 2) ** (1 / records))
    return Interval(reach, 1.0) if all_hit else Interval(0.0, 1 - reach)


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p-values by Holm's step-down procedure (Scandinavian Journal of Statistics 6, 1979)."""
    order = sorted(range(len(p)), key=lambda place: p[place])
    adjusted, highest = [0.0] * len(p), 0.0
    for step, place in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - step) * p[place]))
        adjusted[place] = highest
    return adjusted
