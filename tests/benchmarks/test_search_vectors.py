"""The benchmark of indexes: its truth, its page, and every way on a few rows."""

from __future__ import annotations

import numpy as np

from tests.benchmarks.search_vectors import HEAD, clustered, nearest, replace_part


def test_the_truth_is_a_full_sort() -> None:
    vectors, queries = clustered(500, seed=1), clustered(7, seed=2)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    expected = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :10]
    assert nearest(vectors, queries).tolist() == expected.tolist()


def test_a_part_of_the_page_is_replaced_and_the_others_stay() -> None:
    page = replace_part(replace_part(HEAD, "One", "first\n"), "Two", "second")
    assert page == f"{HEAD}\n\n## One\n\nfirst\n\n## Two\n\nsecond\n"
    changed = replace_part(page, "One", "other")
    assert changed == f"{HEAD}\n\n## One\n\nother\n\n## Two\n\nsecond\n"
    assert replace_part(changed, "Two", "second") == changed
