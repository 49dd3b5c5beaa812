"""Caption metrics on cases whose values are known from the papers or by hand."""

from __future__ import annotations

from math import exp, log

import pytest

from x2kit.errors import DataError
from x2kit.tasks.captioning.metric import DocumentFrequencies, bleu, cider, cider_d, rouge_l


def split(*texts: str) -> list[list[str]]:
    return [text.split() for text in texts]


def test_bleu_clips_repeated_words() -> None:
    """Example 2 of Papineni et al., 2002: modified unigram precision 2/7."""
    scores = bleu(
        split("the the the the the the the"), [split("the cat is on the mat", "there is a cat on the mat")]
    )
    assert scores[0].corpus == pytest.approx(2 / 7)
    assert scores[1].corpus == pytest.approx(0, abs=1e-6)


def test_bleu_punishes_captions_shorter_than_the_closest_reference() -> None:
    short = bleu(split("a dog"), [split("a dog runs", "a dog runs over the grass")])
    assert short[0].corpus == pytest.approx(exp(1 - 3 / 2))
    tie = bleu(split("a dog runs"), [split("a dog", "a dog runs fast")])  # as close: the shorter counts
    assert tie[0].corpus == pytest.approx(1)


def test_corpus_bleu_is_not_the_mean_of_its_rows() -> None:
    scores = bleu(split("a b c d", "x"), [split("a b c d"), split("y")])
    assert scores[0].rows == pytest.approx([1, 0])
    assert scores[0].corpus == pytest.approx(4 / 5)


def test_rouge_l_weights_precision_and_recall() -> None:
    """Lin and Och, 2004: "police kill the gunman" has 3 of 4 words in order; another order has 2."""
    references = [split("police killed the gunman")]
    assert rouge_l(split("police kill the gunman"), references).corpus == pytest.approx(3 / 4)
    assert rouge_l(split("the gunman kill police"), references).corpus == pytest.approx(2 / 4)
    precision, recall = 1, 1 / 2
    expected = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert rouge_l(split("police killed"), references).corpus == pytest.approx(expected)


def test_cider_is_the_mean_cosine_of_n_grams_by_rarity() -> None:
    """Words of both images weigh nothing; "dog" and "cat" weigh log 2 for each occurrence."""
    captions, references = split("a dog", "a a cat"), [split("a dog"), split("a cat")]
    scores = cider(captions, references)
    assert scores.rows[0] == pytest.approx(10 * (1 + 1 + 0 + 0) / 4)
    bigrams = 1 / 2**0.5  # "a a" and "a cat" against "a cat"
    assert scores.rows[1] == pytest.approx(10 * (1 + bigrams) / 4)
    penalty = exp(-1 / 72)  # one word too many
    assert cider_d(captions, references).rows[1] == pytest.approx(10 * (1 + bigrams) / 4 * penalty)


def test_cider_d_gains_nothing_from_repeated_words() -> None:
    references = [split("a dog runs"), split("a cat sits")]
    once, often = split("dog", "cat"), split("dog dog dog", "cat")
    assert cider_d(often, references).rows[0] < cider_d(once, references).rows[0]
    assert cider(often, references).rows[0] == pytest.approx(cider(once, references).rows[0])


def test_frequencies_count_an_n_gram_once_an_image() -> None:
    frequencies = DocumentFrequencies.of([split("a dog dog", "a dog"), split("a cat")])
    assert frequencies.documents == 2
    assert (frequencies.counts["a",], frequencies.counts["dog",], frequencies.counts["a", "dog"]) == (2, 1, 1)


def test_an_n_gram_that_frequencies_lack_counts_as_one() -> None:
    frequencies = DocumentFrequencies(8, {("dog",): 4})
    scores = cider_d(split("cat dog"), [split("cat", "cat")], frequencies)
    cat, dog = log(8), log(8) - log(4)
    penalty = exp(-1 / 72)
    assert scores.corpus == pytest.approx(10 / 4 * cat / (cat**2 + dog**2) ** 0.5 * penalty)


def test_empty_captions_score_nothing_and_count() -> None:
    captions, references = [[], *split("a dog")], [split("a cat"), split("a dog")]
    for scores in (*bleu(captions, references), rouge_l(captions, references), cider_d(captions, references)):
        assert scores.rows[0] == 0
        assert len(scores.rows) == 2


def test_one_image_alone_has_no_rare_words() -> None:
    assert cider_d(split("a dog"), [split("a dog")]).corpus == 0


def test_captions_without_references_are_refused() -> None:
    with pytest.raises(DataError, match="found 1 captions and references for 0"):
        bleu(split("a dog"), [])
    with pytest.raises(DataError, match=r"caption 1 .* has no reference"):
        cider_d(split("a dog", "a cat"), [split("a dog"), []])
