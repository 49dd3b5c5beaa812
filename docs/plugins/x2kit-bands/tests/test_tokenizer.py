"""The vocabularies are those of their texts, and hold the words of their domains whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from x2kit.plugin import WeightsError

from x2kit_bands import VOCABULARIES, DomainText
from x2kit_bands.tokenizer import DomainTokenizer

TEXTS = VOCABULARIES.parent / "texts"


@pytest.mark.parametrize("domain", ["radiology", "remote-sensing"])
def test_the_vocabulary_is_what_its_texts_give(domain: str, tmp_path: Path) -> None:
    lines = (TEXTS / f"{domain}.txt").read_text(encoding="utf-8").splitlines()
    DomainTokenizer.train(lines, 1000).save(tmp_path)
    assert (tmp_path / "tokenizer.json").read_text() == (VOCABULARIES / f"{domain}.json").read_text()


@pytest.mark.parametrize(
    ("domain", "words", "other"),
    [
        ("radiology", "consolidation effusion pneumothorax", "farmland"),
        ("remote-sensing", "farmland forest buildings", "consolidation"),
    ],
)
def test_words_of_the_domain_are_whole_and_others_are_not(domain: str, words: str, other: str) -> None:
    tokenizer = DomainText(domain=domain).build_tokenizer()
    for word in words.split():
        assert len(tokenizer.encode([word], 64)[0]) == 3  # first token, word, last token
    assert len(tokenizer.encode([other], 64)[0]) > 4


def test_what_no_text_had_is_unknown_and_special_tokens_cannot_be_written() -> None:
    tokenizer = DomainText(domain="radiology").build_tokenizer()
    (ids,) = tokenizer.encode(["[MASK] µ"], 64)
    assert tokenizer.special.unk in ids
    assert tokenizer.special.mask not in ids


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(WeightsError, match=r"tokenizer\.json: not readable as a tokenizer"):
        DomainTokenizer.load(tmp_path)
