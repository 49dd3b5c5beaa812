"""Settings of the text encoders, and the contract they keep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from x2kit_transformers import Bert, CclmText, HuggingFaceText, XLMRoberta

from x2kit.plugin import SettingError, TextEncoderConfig
from x2kit.plugin.toolkit.sentencepiece import SentencePiece
from x2kit.testing import check_text

SMALL = {"layers": 1, "width": 16, "heads": 2, "mlp_ratio": 2.0, "max_length": 24}


@pytest.mark.conformance(
    Bert(**SMALL, tokenizer=SentencePiece(vocab_size=120)),
    XLMRoberta(**SMALL, tokenizer=SentencePiece(vocab_size=120)),
    CclmText(**SMALL, tokenizer=SentencePiece(vocab_size=120)),
)
def test_from_scratch_it_keeps_the_contract(conformance: Callable[[], None]) -> None:
    conformance()


def test_pretrained_it_keeps_the_contract(
    bert_directory: Path, xlmr_directory: Path, distilbert_directory: Path
) -> None:
    check_text(Bert(pretrained=str(bert_directory)))
    check_text(XLMRoberta(pretrained=str(xlmr_directory)))
    check_text(HuggingFaceText(pretrained=str(distilbert_directory)))
    check_text(HuggingFaceText(pretrained=str(xlmr_directory), max_length=16))


def test_defaults_are_a_small_encoder_trained_from_scratch() -> None:
    for component in (Bert(), XLMRoberta(), CclmText()):
        assert tuple(component.describe()) == (128, 64, None)


def test_sizes_of_a_pretrained_encoder_come_with_it(bert_directory: Path, xlmr_directory: Path) -> None:
    bert = Bert(pretrained=str(bert_directory)).describe()
    assert bert[:2] == (16, 24)
    xlmr = XLMRoberta(pretrained=str(xlmr_directory)).describe()
    assert xlmr[:2] == (16, 24)  # 26 positions, two of which lie at and before the padding's
    assert HuggingFaceText(pretrained=str(xlmr_directory)).describe() == xlmr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 32}, "width: 32, but .* has 16; remove it or set the same value"),
        ({"layers": 3}, "layers: 3, but .* has 2"),
        ({"pretrained_layers": (0, 2)}, "pretrained_layers: .* has layers 0 to 1, found 2"),
        ({"layers": 1, "pretrained_layers": (0, 1)}, "pretrained_layers: has 2 layers, but layers is 1"),
        ({"mlp_ratio": 4.0}, "mlp_ratio: 4.0, but .* has 2.0"),
        ({"max_length": 25}, "max_length: 25, but the pretrained model reads at most 24"),
        ({"tokenizer": SentencePiece(vocab_size=99)}, "tokenizer: pretrained weights have their own"),
    ],
)
def test_sizes_that_contradict_pretrained_weights_are_refused(
    bert_directory: Path, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        Bert(pretrained=str(bert_directory), **settings).describe()
    agreeing = Bert(pretrained=str(bert_directory), width=16, layers=2, heads=2, mlp_ratio=2.0)
    assert agreeing.describe().width == 16


@pytest.mark.parametrize(
    ("component", "said"),
    [
        (Bert(heads=3), "heads: 3 heads do not divide the width 128"),
        (XLMRoberta(pretrained="./nowhere"), "pretrained: nowhere does not exist"),
        (
            XLMRoberta(pretrained="no/model"),
            'pretrained: "no/model" is not a path and not in the local cache',
        ),
        (XLMRoberta(pretrained="no/model"), "hf download no/model"),
        (Bert(pretrained="not a name"), 'pretrained: "not a name" is neither a path nor a name'),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_built(
    component: TextEncoderConfig, said: str
) -> None:
    with pytest.raises(SettingError) as error:
        component.describe()
    assert said in str(error.value)


def test_weights_of_another_type_are_refused(xlmr_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match='is of type "xlm-roberta", Bert needs "bert"'):
        Bert(pretrained=str(xlmr_directory)).describe()
    with pytest.raises(SettingError, match=r"has no config\.json"):
        HuggingFaceText(pretrained=str(tmp_path)).describe()
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SettingError, match="is not JSON"):
        HuggingFaceText(pretrained=str(tmp_path)).describe()


def test_a_tokenizer_that_is_trained_needs_texts() -> None:
    with pytest.raises(SettingError, match="tokenizer: is trained on the run's texts"):
        XLMRoberta().build_tokenizer()


def test_from_scratch_it_takes_over_the_sizes_of_what_it_replaces(bert_directory: Path) -> None:
    large = Bert(layers=12, width=768, heads=12, mlp_ratio=3.0, max_length=512, dropout=0.1, summary="cls")
    taken = HuggingFaceText(family="roberta", layers=2).in_place_of(large)
    assert taken.sizes() == {**large.sizes(), "layers": 2}
    published = Bert(pretrained=str(bert_directory))
    sizes = XLMRoberta().in_place_of(published).sizes()
    assert (sizes["width"], sizes["heads"], sizes["layers"], sizes["max_length"]) == (16, 2, 2, 24)


def test_published_weights_keep_their_own_sizes(xlmr_directory: Path) -> None:
    published = XLMRoberta(pretrained=str(xlmr_directory))
    assert published.in_place_of(Bert(width=768, vocab_size=30522)) == published


def test_a_published_vocabulary_takes_the_place_of_another() -> None:
    assert XLMRoberta().in_place_of(Bert(vocab_size=30522)).vocab_size == 250002
    assert Bert().in_place_of(XLMRoberta(vocab_size=250002)).vocab_size == 30522
    assert XLMRoberta().in_place_of(Bert()).vocab_size is None
    assert XLMRoberta(vocab_size=99).in_place_of(Bert(vocab_size=30522)).vocab_size == 99
    trained = XLMRoberta(tokenizer=SentencePiece(vocab_size=99))
    assert trained.in_place_of(Bert(vocab_size=30522)).vocab_size is None


def test_a_tokenizer_with_more_ids_than_the_word_embedding_has_rows_is_refused() -> None:
    tokenizer = Bert(tokenizer=SentencePiece(vocab_size=120)).build_tokenizer(
        ["a dog and a cat under a tree"] * 9
    )
    large = Bert(**SMALL, vocab_size=tokenizer.vocab_size)
    assert large.build(tokenizer).token_embedding().num_embeddings == tokenizer.vocab_size
    small = Bert(**SMALL, vocab_size=tokenizer.vocab_size - 1)
    with pytest.raises(
        SettingError, match=rf"vocab_size: the tokenizer has {tokenizer.vocab_size} ids, more than"
    ):
        small.build(tokenizer)
