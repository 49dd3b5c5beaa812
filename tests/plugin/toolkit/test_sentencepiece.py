"""The SentencePiece tokenizer that is trained on the run's own texts."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from x2kit.plugin import DataError, SettingError, WeightsError
from x2kit.plugin.toolkit.sentencepiece import SentencePiece, SentencePieceTokenizer

TEXTS = ["red apple", "green apple", "Roter Apfel, grüner Apfel", "苹果和狗", "собака", "a dog and a red dog"]


@pytest.fixture(scope="module")
def tokenizer() -> SentencePieceTokenizer:
    return SentencePiece(vocab_size=64).train(TEXTS)


def test_ids_follow_xlmr(tokenizer: SentencePieceTokenizer) -> None:
    assert tokenizer.special == (1, 0, 2, 3, tokenizer.vocab_size - 1)  # pad, cls, sep, unk, mask
    (ids,) = tokenizer.encode(["red apple"], 32)
    assert ids[0] == 0
    assert ids[-1] == 2
    assert tokenizer.decode(ids) == "red apple"


def test_training_depends_on_the_set_of_texts_alone(tokenizer: SentencePieceTokenizer) -> None:
    again = SentencePiece(vocab_size=64).train(iter([*reversed(TEXTS), *TEXTS, "", " "]))
    assert again._processor.serialized_model_proto() == tokenizer._processor.serialized_model_proto()


def test_few_texts_make_a_small_vocabulary() -> None:
    tokenizer = SentencePiece(vocab_size=8000).train(TEXTS)
    assert tokenizer.vocab_size < 200


def test_the_vocabulary_has_as_many_ids_as_asked_for() -> None:
    syllables = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
    texts = [f"{one}{other} {other}{one}{one}" for one in syllables for other in syllables]
    assert SentencePiece(vocab_size=60).train(texts).vocab_size == 60


def test_a_vocabulary_that_cannot_hold_the_characters_is_refused() -> None:
    with pytest.raises(SettingError, match="vocab_size: SentencePiece cannot train 12 ids on 6 texts"):
        SentencePiece(vocab_size=12).train(TEXTS)


def test_a_word_is_whole_where_another_always_follows() -> None:
    colours, things = ["racing", "white", "older", "palm"], ["car", "flag", "person", "tree"]
    names = [f"{colour} {thing}" for colour, thing in zip(colours, things, strict=True)]
    tokenizer = SentencePiece().train([*names, *(f"{one}, {other}" for one in names for other in names)])
    assert [len(ids) - 2 for ids in tokenizer.encode(names, 32)] == [2] * len(names)


def test_no_texts_are_refused() -> None:
    with pytest.raises(DataError, match="the streams have none"):
        SentencePiece().train(["", "  "])


def test_a_long_text_is_not_dropped() -> None:
    tokenizer = SentencePiece(vocab_size=64).train(["ab " * 4000 + "z", "ab"])
    assert tokenizer.special.unk not in tokenizer.encode(["z"], 8)[0]


def test_case_is_kept(tokenizer: SentencePieceTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(["Apfel"], 16)[0]) == "Apfel"


def test_words_begin_at_spaces(tokenizer: SentencePieceTokenizer) -> None:
    (ids,) = tokenizer.encode(["dog apple"], 32)
    assert sum(tokenizer.starts_word(ids)) == 4  # two words, cls and sep


def test_long_texts_are_cut_and_still_closed(tokenizer: SentencePieceTokenizer) -> None:
    (ids,) = tokenizer.encode(["red apple " * 20], 6)
    assert len(ids) == 6
    assert ids[-1] == tokenizer.special.sep


def test_frequent_pieces_have_high_frequencies(tokenizer: SentencePieceTokenizer) -> None:
    logs = tokenizer.log_frequencies()
    assert logs[tokenizer.special.sep] == max(logs)
    assert logs[tokenizer.special.mask] == min(logs)
    assert len(logs) == tokenizer.vocab_size


def test_it_travels_to_worker_processes(tokenizer: SentencePieceTokenizer) -> None:
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode(TEXTS, 32) == tokenizer.encode(TEXTS, 32)


def test_what_cannot_be_read_is_refused(tokenizer: SentencePieceTokenizer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no sentencepiece\.model"):
        SentencePieceTokenizer.load(tmp_path)
    tokenizer.save(tmp_path)
    file = tmp_path / "sentencepiece.model"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(WeightsError, match="not a SentencePiece model"):
        SentencePieceTokenizer.load(tmp_path)


def test_a_model_with_other_special_ids_is_refused(tmp_path: Path) -> None:
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        vocab_size=50,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "sentencepiece.model").write_bytes(model.getvalue())
    with pytest.raises(WeightsError, match=r"expected \(0, 1, 2, 3\)"):
        SentencePieceTokenizer.load(tmp_path)
