"""Intervals and tests equal those of scipy and of hand calculation."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from x2kit.evaluation.comparison.resampling import (
    Columns,
    bootstrap,
    contributions,
    exact_bound,
    holm,
    randomisation_test,
)

ONE = np.ones((1, 1))


def hits(*values: float) -> Columns:
    """One item in each record, one language."""
    column = np.array(values, dtype=float)[:, None]
    return Columns(column, np.ones_like(column))


def drawn(count: int, rate: float, seed: int) -> NDArray[np.float64]:
    return (np.random.default_rng(seed).random(count) < rate).astype(float)


def test_a_small_test_tries_all_permutations_and_equals_scipys() -> None:
    first, second = drawn(9, 0.4, 1), drawn(9, 0.7, 2)
    parts = contributions(hits(*first), hits(*second), ONE)
    found = randomisation_test(parts, 9_999, 0)
    assert (found.exact, found.permutations) == (True, 512)
    expected = stats.permutation_test(
        (second, first), lambda a, b: (a - b).mean(), permutation_type="samples", n_resamples=np.inf
    )
    assert found.p == [pytest.approx(expected.pvalue)]


def test_a_large_test_agrees_with_scipys_random_one() -> None:
    first, second = drawn(200, 0.40, 3), drawn(200, 0.48, 4)
    found = randomisation_test(contributions(hits(*first), hits(*second), ONE), 9_999, 0)
    expected = stats.permutation_test(
        (second, first),
        lambda a, b, axis: (a - b).mean(axis),
        permutation_type="samples",
        n_resamples=9_999,
        vectorized=True,
        rng=np.random.default_rng(5),
    )
    assert not found.exact
    assert found.p == [pytest.approx(expected.pvalue, abs=0.015)]  # three standard errors of p at 9,999


def test_a_p_value_by_hand() -> None:
    """Three records that all gain: only no swap and all swaps are as extreme, 2 of 8 permutations."""
    found = randomisation_test(contributions(hits(0, 0, 0), hits(1, 1, 1), ONE), 9_999, 0)
    assert found.p == [2 / 8]


def test_equal_runs_have_p_1() -> None:
    values = drawn(50, 0.5, 6)
    assert randomisation_test(contributions(hits(*values), hits(*values), ONE), 999, 0).p == [1.0]


def test_an_interval_agrees_with_scipys() -> None:
    values = drawn(300, 0.3, 7)
    ((found,),) = bootstrap([hits(*values)], ONE, 10_000, 0, 0.95)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(8)
    ).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.007)  # two steps of 1/300


def test_an_interval_of_a_difference_is_paired() -> None:
    """Both runs miss and hit alike but for one record: resamples of the difference hardly vary."""
    first = drawn(100, 0.5, 9)
    second = first.copy()
    second[np.flatnonzero(first == 0)[0]] = 1
    ((_, _, found),) = bootstrap([hits(*first), hits(*second)], ONE, 4_000, 0, 0.95)
    expected = stats.bootstrap(
        (second - first,), np.mean, n_resamples=4_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.011)
    assert found.low >= 0
    assert found.high < 0.05


def test_items_of_a_record_are_drawn_together() -> None:
    """Five equal captions of an image are one observation: the interval is that of the images."""
    images = drawn(80, 0.5, 10)[:, None]
    ((alone,),) = bootstrap([Columns(images, np.ones_like(images))], ONE, 2_000, 0, 0.95)
    ((five,),) = bootstrap([Columns(5 * images, np.full_like(images, 5))], ONE, 2_000, 0, 0.95)
    assert five == alone


def test_a_mean_over_languages_weighs_each_equally() -> None:
    """3 of 4 in one language and 0 of 1 in another: their mean is 0.375, whatever the numbers of items."""
    sums = np.array([[1.0, 0], [1, 0], [1, 0], [0, 0]])
    counts = np.array([[1.0, 1], [1, 0], [1, 0], [1, 0]])
    means_of = np.array([[0.5], [0.5]])
    assert Columns(sums, counts).means() @ means_of == pytest.approx(0.375)
    zero = Columns(np.zeros_like(sums), counts)
    assert contributions(zero, Columns(sums, counts), means_of).sum(0) == pytest.approx(0.375)


def test_a_seed_repeats_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = hits(*drawn(40, 0.4, 11)), hits(*drawn(40, 0.6, 12))
    parts = contributions(first, second, ONE)
    before = bootstrap([first, second], ONE, 500, 3, 0.9), randomisation_test(parts, 500, 3)
    assert (bootstrap([first, second], ONE, 500, 3, 0.9), randomisation_test(parts, 500, 3)) == before
    monkeypatch.setattr("x2kit.evaluation.comparison.resampling._AT_ONCE", 40 * 7)
    assert (bootstrap([first, second], ONE, 500, 3, 0.9), randomisation_test(parts, 500, 3)) == before


@pytest.mark.parametrize("hit", [True, False])
def test_a_share_of_0_or_1_has_the_exact_interval(hit: bool) -> None:
    expected = stats.binomtest(30 if hit else 0, 30).proportion_ci(0.95, method="exact")
    assert exact_bound(30, hit, 0.95) == pytest.approx((expected.low, expected.high))


def test_holm_by_hand() -> None:
    """Smallest times 3, next times 2, largest times 1, never below the one before."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("seed", range(3))
def test_holm_is_the_running_maximum_of_the_scaled_p_values(seed: int) -> None:
    p = np.random.default_rng(seed).random(20) ** 3
    order = np.argsort(p)
    naive = np.minimum(1, np.maximum.accumulate((20 - np.arange(20)) * p[order]))
    assert np.array(holm(list(p)))[order] == pytest.approx(naive)
