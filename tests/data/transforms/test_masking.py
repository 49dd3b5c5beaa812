"""Which tokens are masked, and what replaces them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.stubs import WordTokenizer
from x2kit.data.config import MaskingConfig
from x2kit.data.transforms.masking import MaskedIds, mask_texts, num_masks

MASK, CLS, SEP = 999, 0, 2
TEXTS = st.lists(
    st.lists(st.integers(4, 998), max_size=30).map(lambda ids: [CLS, *ids, SEP]), min_size=1, max_size=5
)
CONFIGS = st.builds(
    MaskingConfig,
    mask_prob=st.floats(0.01, 1),
    max_masks=st.integers(1, 20),
    skipgram_prob=st.floats(0, 1),
    skipgram_size=st.integers(2, 5),
    whole_words=st.booleans(),
)


def masked(texts: list[list[int]], seed: int = 0, **settings: Any) -> list[MaskedIds]:
    return mask_texts(texts, np.random.default_rng(seed), MaskingConfig(**settings), WordTokenizer())


@given(texts=TEXTS, config=CONFIGS, seed=st.integers(0, 1000))
def test_masking_is_deterministic_and_within_its_limits(
    texts: list[list[int]], config: MaskingConfig, seed: int
) -> None:
    found = mask_texts(texts, np.random.default_rng(seed), config, WordTokenizer())
    assert found == mask_texts(texts, np.random.default_rng(seed), config, WordTokenizer())
    for text, (ids, positions, labels) in zip(texts, found, strict=True):
        assert len(positions) == min(num_masks(len(text), config), len(text) - 1)
        assert positions == sorted(set(positions))
        assert 0 not in positions
        assert labels == [text[position] for position in positions]
        assert len(ids) == len(text)
        assert [
            i for i, (new, old) in enumerate(zip(ids, text, strict=True)) if new != old and i not in positions
        ] == []
        assert all(0 <= id_ < 1000 for id_ in ids)


@pytest.mark.parametrize(
    ("tokens", "prob", "most", "expected"),
    [(10, 0.5, 12, 5), (40, 0.5, 12, 12), (3, 0.1, 12, 1), (2, 0.01, 12, 1), (7, 0.4, 10, 3)],
)
def test_the_number_of_masks_is_that_of_the_paper(tokens: int, prob: float, most: int, expected: int) -> None:
    assert num_masks(tokens, MaskingConfig(mask_prob=prob, max_masks=most)) == expected


def test_80_percent_become_the_mask_10_a_random_id_10_stay() -> None:
    text = [CLS, *[4] * 398, SEP]
    outcomes: Counter[str] = Counter()
    for ids, positions, labels in masked([text] * 25, max_masks=400, mask_prob=1.0):
        for position, label in zip(positions, labels, strict=True):
            outcomes["mask" if ids[position] == MASK else "same" if ids[position] == label else "random"] += 1
    share = {kind: count / outcomes.total() for kind, count in outcomes.items()}
    assert outcomes.total() == 25 * 399
    expected = {"mask": 0.8, "random": 0.1, "same": 0.1}
    assert share == pytest.approx(expected, abs=0.015)  # five standard deviations


def test_random_ids_cover_the_whole_vocabulary() -> None:
    text = [CLS, *[4] * 398, SEP]
    ids = {id_ for found in masked([text] * 40, max_masks=400, mask_prob=1.0) for id_ in found.ids}
    assert len(ids) > 700  # about 1600 draws of 1000 ids
    assert min(ids) < 10
    assert max(ids - {MASK}) > 990


def test_the_closing_token_may_be_masked_and_the_first_never() -> None:
    positions = {p for seed in range(50) for p in masked([[CLS, 4, 6, SEP]], seed)[0].positions}
    assert positions == {1, 2, 3}


def test_pieces_of_a_word_are_masked_together() -> None:
    text = [CLS, 4, 5, 5, 6, 7, 8, SEP]  # even ids begin a word: (4 5 5) (6 7) (8)
    found = Counter(
        tuple(masked([text], seed, max_masks=3, mask_prob=1.0, skipgram_prob=0)[0].positions)
        for seed in range(200)
    )
    # 86 expected, whenever one of its three pieces is drawn first; 6 if pieces were masked one by one
    assert found[1, 2, 3] > 60
    singles = [
        masked([text], seed, max_masks=1, skipgram_prob=0, whole_words=False)[0].positions
        for seed in range(200)
    ]
    assert {position for (position,) in singles} == set(range(1, 8))


def test_whole_words_are_masked_within_the_limit() -> None:
    text = [CLS, 4, 5, 5, 5, SEP]
    found = {tuple(masked([text], seed, mask_prob=0.7, skipgram_prob=0)[0].positions) for seed in range(100)}
    assert {(1, 2, 3, 4)} < found  # the word is drawn first; if SEP is, one piece exceeds the limit
    assert all(5 in positions for positions in found - {(1, 2, 3, 4)})


def test_spans_are_two_or_three_tokens_long() -> None:
    text = [CLS, *range(4, 204, 2), SEP]
    lengths: Counter[int] = Counter()
    for seed in range(300):
        positions = masked([text], seed, max_masks=4, skipgram_prob=1.0, mask_prob=1.0)[0].positions
        runs = np.split(np.array(positions), np.flatnonzero(np.diff(positions) != 1) + 1)
        lengths.update(len(run) for run in runs)
    assert lengths[2] > 200  # two spans of two in a quarter of the texts; one with the rest of a longer span
    assert lengths[3] > 80
    assert lengths[4] < 30  # only if two spans are adjacent


def test_no_spans_are_masked_with_probability_zero() -> None:
    text = [CLS, *range(4, 204, 2), SEP]
    neighbours = 0
    for seed in range(200):
        positions = masked([text], seed, max_masks=2, skipgram_prob=0, mask_prob=1.0)[0].positions
        neighbours += positions[1] - positions[0] == 1
    assert neighbours < 15  # by chance 2 in 100


def test_a_text_of_the_first_token_only_has_nothing_to_predict() -> None:
    assert masked([[CLS]]) == [MaskedIds([CLS], [], [])]
