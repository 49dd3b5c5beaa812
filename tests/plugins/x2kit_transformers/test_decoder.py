"""Decoders of answers: causal, reading questions, like the encoder that they go with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from x2kit_transformers import Bert, HuggingFaceText, XLMRoberta
from x2kit_transformers.decoder import copied_layers

from x2kit.plugin import IdsOnly, SpecialIds, TextDecoder, Tokenizer

WIDTH = 16
TOKENIZERS = {
    Bert: IdsOnly(40, SpecialIds(pad=0, cls=2, sep=3, unk=1, mask=4)),
    XLMRoberta: IdsOnly(40, SpecialIds(pad=1, cls=0, sep=2, unk=3, mask=4)),
}
SAME = {"rtol": 0, "atol": 1e-5}
"""Other lengths are other summation orders."""


@pytest.fixture(params=[Bert, XLMRoberta])
def kind(request: pytest.FixtureRequest) -> type[Bert | XLMRoberta]:
    return request.param


def built(kind: type[Bert | XLMRoberta]) -> tuple[TextDecoder, Tokenizer]:
    torch.manual_seed(0)
    tokenizer = TOKENIZERS[kind]
    config = kind(width=WIDTH, heads=2, mlp_ratio=2, max_length=12)
    return config.build_decoder(tokenizer, layers=2).eval(), tokenizer


def read(decoder: TextDecoder, ids: Tensor, pad: int, question: Tensor, question_mask: Tensor) -> Tensor:
    with torch.inference_mode():
        return decoder(ids, ids != pad, question, question_mask)


def test_padding_changes_nothing(kind: type[Bert | XLMRoberta]) -> None:
    decoder, tokenizer = built(kind)
    pad, cls, sep = tokenizer.special.pad, tokenizer.special.cls, tokenizer.special.sep
    question = torch.randn(1, 5, WIDTH)
    kept = torch.tensor([[True, True, True, False, False]])
    short = torch.tensor([[cls, 7, 8, sep]])
    long = torch.cat([short, torch.full((1, 3), pad)], 1)
    plain = read(decoder, short, pad, question[:, :3], kept[:, :3])
    assert_close(read(decoder, long, pad, question, kept)[:, :4], plain, **SAME)


def test_a_token_sees_those_before_it_and_the_question(kind: type[Bert | XLMRoberta]) -> None:
    decoder, tokenizer = built(kind)
    pad, cls, sep = tokenizer.special.pad, tokenizer.special.cls, tokenizer.special.sep
    question, kept = torch.randn(1, 3, WIDTH), torch.ones(1, 3, dtype=torch.bool)
    first = read(decoder, torch.tensor([[cls, 7, 8, sep]]), pad, question, kept)
    other = read(decoder, torch.tensor([[cls, 7, 9, 10]]), pad, question, kept)
    assert_close(first[:, :2], other[:, :2], **SAME)
    assert not torch.isclose(first[:, 2], other[:, 2], atol=1e-3).all()
    elsewhere = read(decoder, torch.tensor([[cls, 7, 8, sep]]), pad, question.flip(-1), kept)
    assert not torch.isclose(first[:, 0], elsewhere[:, 0], atol=1e-3).all()


def test_logits_are_over_the_vocabulary_and_the_word_embedding_is_shared() -> None:
    decoder, tokenizer = built(Bert)
    question, kept = torch.randn(2, 3, WIDTH), torch.ones(2, 3, dtype=torch.bool)
    assert read(decoder, torch.tensor([[2, 7], [2, 8]]), 0, question, kept).shape == (
        2,
        2,
        tokenizer.vocab_size,
    )
    assert decoder.model.get_output_embeddings().weight is decoder.model.get_input_embeddings().weight


def test_nothing_of_a_decoder_is_pretrained(kind: type[Bert | XLMRoberta]) -> None:
    decoder, _ = built(kind)
    assert decoder.fresh() == {name for name, _ in decoder.named_parameters()}


def test_official_checkpoints_have_the_names_of_transformers() -> None:
    decoder, _ = built(Bert)
    names = decoder.official_names()
    assert set(names) == set(decoder.state_dict())
    assert names["model.bert.encoder.layer.1.crossattention.self.key.bias"] == (
        "bert.encoder.layer.1.crossattention.self.key.bias",
    )
    (buffer,) = decoder.official_buffers().items()
    assert buffer[0] == "bert.embeddings.position_ids"
    assert buffer[1].tolist() == [list(range(12))]


def test_a_decoder_like_a_pretrained_encoder(bert_directory: Path, xlmr_directory: Path) -> None:
    for config in (Bert(pretrained=str(bert_directory)), XLMRoberta(pretrained=str(xlmr_directory))):
        tokenizer = config.build_tokenizer()
        decoder = config.build_decoder(tokenizer, layers=3)
        found = decoder.model.config
        assert (found.num_hidden_layers, found.hidden_size, found.is_decoder) == (3, WIDTH, True)
        assert found.vocab_size == tokenizer.vocab_size


def test_dropout_of_the_decoder_is_the_encoders(bert_directory: Path) -> None:
    config = Bert(pretrained=str(bert_directory), dropout=0.25)
    found = config.build_decoder(config.build_tokenizer(), layers=1).model.config
    assert (found.hidden_dropout_prob, found.attention_probs_dropout_prob) == (0.25, 0.25)


@pytest.mark.parametrize("family", ["deberta-v2", "modernbert", "distilbert"])
def test_an_encoder_of_another_family_has_a_decoder_of_bert_layers(family: str) -> None:
    tokenizer = TOKENIZERS[Bert]
    config = HuggingFaceText(family=family, width=WIDTH, heads=2, mlp_ratio=2, max_length=600, dropout=0.25)
    decoder = config.build_decoder(tokenizer, layers=3)
    found = decoder.model.config
    assert (found.model_type, found.num_hidden_layers, found.hidden_size) == ("bert", 3, WIDTH)
    assert (found.intermediate_size, found.max_position_embeddings) == (2 * WIDTH, 512)
    assert found.hidden_dropout_prob == 0.25
    question, kept = torch.randn(1, 3, WIDTH), torch.ones(1, 3, dtype=torch.bool)
    assert read(decoder.eval(), torch.tensor([[2, 7]]), 0, question, kept).shape == (
        1,
        2,
        tokenizer.vocab_size,
    )


def test_a_decoder_beside_a_pretrained_encoder_of_another_family(bert_directory: Path) -> None:
    config = HuggingFaceText(pretrained=str(bert_directory))
    tokenizer = config.build_tokenizer()
    found = config.build_decoder(tokenizer, layers=1).model.config
    assert (found.hidden_size, found.vocab_size) == (WIDTH, tokenizer.vocab_size)


def test_it_begins_with_what_fits_of_the_other_parts(kind: type[Bert | XLMRoberta]) -> None:
    decoder, _ = built(kind)
    own = decoder.state_dict()
    words = torch.randn(40, WIDTH)
    query = torch.randn(WIDTH, WIDTH)
    text = {
        "embeddings.word_embeddings.weight": words,
        "encoder.layer.0.output.dense.bias": torch.randn(WIDTH),
    }
    fusion = {
        "2.crossattention.self.query.weight": query,
        "2.crossattention.self.key.weight": torch.randn(WIDTH, WIDTH + 1),
        "2.crossattention.self.key.bias": torch.randn(WIDTH),
        "1.attention.self.query.weight": query,
    }
    head = {"dense.bias": torch.randn(WIDTH), "decoder.weight": words, "decoder.bias": torch.randn(40)}
    found = decoder.begin_from(text, fusion, head)
    assert set(found) <= set(own)
    stack, published = (
        decoder.model.base_model_prefix,
        {name: kind.mlm_head.official(name)[0] for name in head},
    )
    bias = published["decoder.weight"].removesuffix("weight") + "bias"
    expected = {
        f"model.{stack}.embeddings.word_embeddings.weight",
        f"model.{stack}.encoder.layer.1.crossattention.self.query.weight",
        f"model.{bias}",
        *(f"model.{name}" for name in published.values()),
    }
    assert set(found) == expected & set(own)
    assert torch.equal(found[f"model.{stack}.encoder.layer.1.crossattention.self.query.weight"], query)


@pytest.mark.parametrize(
    ("text_layers", "layers", "copied"),
    [(3, 2, [0, 2]), (12, 2, [1, 3]), (3, 4, [0, 1, 2, 3]), (3, 3, [0, 1, 3])],
)
def test_a_shallower_decoder_takes_layers_from_the_whole_depth(
    kind: type[Bert | XLMRoberta], text_layers: int, layers: int, copied: list[int]
) -> None:
    config = kind(width=WIDTH, heads=2, mlp_ratio=2, max_length=12)
    decoder = config.build_decoder(TOKENIZERS[kind], layers=layers)
    text = {f"encoder.layer.{number}.output.dense.bias": torch.zeros(WIDTH) for number in range(text_layers)}
    fusion = {f"{number}.output.dense.bias": torch.full((WIDTH,), float(number)) for number in range(4)}
    found = decoder.begin_from(text, fusion, {})
    assert [int(value[0]) for value in found.values()] == copied
    assert [int(name.split(".layer.")[1][0]) for name in found] == list(range(layers))


@pytest.mark.parametrize(
    ("text_layers", "fusion_layers", "layers", "copied"),
    [
        (12, 6, 6, [0, 1, 2, 3, 4, 5]),
        (12, 6, 3, [1, 3, 5]),  # odd numbers in the stack, as in the official code
        (3, 4, 2, [0, 2]),
        (12, 6, 2, [2, 5]),
        (12, 6, 4, [0, 2, 3, 5]),
        (12, 6, 1, [5]),
        (12, 2, 3, [0, 1]),
        (12, 0, 2, []),
    ],
)
def test_half_the_depth_are_the_odd_layers_of_the_official_stack_and_others_are_evenly_spaced(
    text_layers: int, fusion_layers: int, layers: int, copied: list[int]
) -> None:
    assert copied_layers(text_layers, fusion_layers, layers) == copied
