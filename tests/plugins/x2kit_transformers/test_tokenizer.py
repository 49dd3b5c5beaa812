"""Published tokenizers: word starts by what their kind writes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from x2kit_transformers.official import Bert
from x2kit_transformers.tokenizer import HuggingFaceTokenizer

from x2kit.plugin import WeightsError
from x2kit.testing import check_text
from x2kit.testing.subjects import TEXTS


def pieces(tokenizer: HuggingFaceTokenizer, ids: list[int]) -> list[str]:
    return tokenizer._tokenizer.convert_ids_to_tokens(ids)


def test_wordpiece_marks_what_goes_on(bert_directory: Path) -> None:
    tokenizer = HuggingFaceTokenizer.load(bert_directory)
    (ids,) = tokenizer.encode(["two wooden dogs"], 32)
    starts = tokenizer.starts_word(ids)
    assert sum(starts) == 5  # three words, cls and sep
    for piece, start in zip(pieces(tokenizer, ids), starts, strict=True):
        assert start == (not piece.startswith("##"))


def test_unigram_marks_what_begins(xlmr_directory: Path) -> None:
    tokenizer = HuggingFaceTokenizer.load(xlmr_directory)
    (ids,) = tokenizer.encode(["two wooden dogs"], 32)
    starts = tokenizer.starts_word(ids)
    assert sum(starts) == 5
    for piece, start in zip(pieces(tokenizer, ids)[1:-1], starts[1:-1], strict=True):
        assert start == piece.startswith("▁")


def byte_level(special: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=special))
    names = dict(zip(("bos_token", "eos_token", "pad_token", "mask_token"), special, strict=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def test_the_first_word_of_a_byte_level_text_begins_too() -> None:
    tokenizer = HuggingFaceTokenizer(byte_level(["<s>", "</s>", "<pad>", "<mask>"]), "here")
    (ids,) = tokenizer.encode(["dogs run"], 32)
    starts = tokenizer.starts_word(ids)
    assert sum(starts) == 4
    assert starts[1]
    assert tokenizer.special.unk == tokenizer.special.pad  # every byte is known


def test_a_tokenizer_that_cannot_mask_is_refused() -> None:
    with pytest.raises(WeightsError, match="here: the tokenizer has no mask token"):
        HuggingFaceTokenizer(byte_level(["<s>", "</s>", "<pad>"]), "here")


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot read a tokenizer"):
        HuggingFaceTokenizer.load(tmp_path)


def test_texts_may_have_no_end_token(bert_directory: Path) -> None:
    plain, without = (
        Bert(published_tokenizer=str(bert_directory)),
        Bert(published_tokenizer=str(bert_directory), end_token=False),
    )
    assert plain.without_end_token() == without
    tokenizer = without.build_tokenizer()
    for limit in (3, 4, 32):
        ended = plain.build_tokenizer().encode(["two wooden dogs"], limit + 1)
        assert tokenizer.encode(["two wooden dogs"], limit) == [ids[:-1] for ids in ended]
    check_text(without)
