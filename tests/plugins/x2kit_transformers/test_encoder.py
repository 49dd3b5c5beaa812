"""Text encoders of transformers: sizes, positions, pretrained weights."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoModel
from x2kit_transformers import Bert, HuggingFaceText, XLMRoberta

from x2kit.plugin import TextEncoder, TextEncoderConfig, WeightsError
from x2kit.testing.subjects import TEXTS


def built(config: TextEncoderConfig) -> TextEncoder:
    return config.build(config.build_tokenizer(TEXTS)).eval()


def test_bert_from_scratch_has_berts_conventions() -> None:
    config = built(Bert(width=16, heads=2)).model.config
    assert (config.type_vocab_size, config.layer_norm_eps, config.max_position_embeddings) == (2, 1e-12, 64)
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.0, 0.0)


def test_xlmr_from_scratch_has_xlmrs_conventions() -> None:
    encoder = built(XLMRoberta(width=16, heads=2, dropout=0.2))
    config = encoder.model.config
    assert (config.type_vocab_size, config.layer_norm_eps, config.max_position_embeddings) == (1, 1e-5, 66)
    assert config.hidden_dropout_prob == 0.2
    assert encoder.token_embedding().padding_idx == encoder.tokenizer.special.pad == 1
    assert encoder.fresh() == {name for name, _ in encoder.named_parameters()}


def test_texts_begin_as_sets_of_words() -> None:
    """Positions and segments, which are the same for all texts, start small."""
    model = built(Bert(width=64, heads=2)).model
    words, places = model.get_input_embeddings().weight, model.embeddings.position_embeddings.weight
    assert 0.05 < (places.std() / words.std()).item() < 0.2


def test_pretrained_tokens_are_transformers_own(xlmr_directory: Path, bert_directory: Path) -> None:
    for config, directory in (
        (XLMRoberta(pretrained=str(xlmr_directory)), xlmr_directory),
        (Bert(pretrained=str(bert_directory)), bert_directory),
    ):
        encoder = built(config)
        ids = torch.tensor([[encoder.tokenizer.special.cls, 7, 8, encoder.tokenizer.special.sep]])
        mask = torch.ones_like(ids, dtype=torch.bool)
        expected = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()(ids, mask)
        assert_close(encoder(ids, mask), expected.last_hidden_state)
        assert encoder.fresh() == set()
        assert encoder.model.config._attn_implementation == "sdpa"


def test_reading_published_weights_prints_nothing(
    bert_directory: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[logging.LogRecord] = []
    handler, logger = logging.Handler(), logging.getLogger("transformers")
    handler.emit = said.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    try:
        built(Bert(pretrained=str(bert_directory)))  # its file holds a head, which transformers reports
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage() for record in said] == []
    assert capfd.readouterr() == ("", "")


def test_dropout_of_a_pretrained_encoder_can_be_set(bert_directory: Path) -> None:
    encoder = built(Bert(pretrained=str(bert_directory), dropout=0.25))
    assert encoder.model.config.hidden_dropout_prob == 0.25


def test_a_saved_encoder_needs_its_pretrained_directory_no_more(
    distilbert_directory: Path, tmp_path: Path
) -> None:
    source = shutil.copytree(distilbert_directory, tmp_path / "source")
    config = HuggingFaceText(pretrained=str(source))
    encoder = built(config)
    encoder.save_assets(tmp_path / "assets")
    encoder.tokenizer.save(tmp_path / "assets")
    shutil.rmtree(source)
    tokenizer = config.build_tokenizer(assets=tmp_path / "assets")
    again = config.build(tokenizer, tmp_path / "assets").eval()
    again.load_state_dict(encoder.state_dict())
    ids = torch.tensor(tokenizer.encode(["a red apple"], 16))
    assert_close(again(ids, ids > 0), encoder(ids, ids > 0))
    assert again.max_length == encoder.max_length == 20


def test_a_truncated_file_is_refused(bert_directory: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(bert_directory, tmp_path / "damaged")
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="cannot read the text encoder's weights"):
        built(Bert(pretrained=str(directory)))


def test_a_missing_tensor_is_refused_by_name(bert_directory: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(bert_directory, tmp_path / "short")
    file = directory / "model.safetensors"
    tensors = load_file(file)
    del tensors["bert.encoder.layer.1.output.dense.weight"]
    tensors["bert.encoder.layer.9.output.dense.weight"] = torch.zeros(2)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError) as error:
        built(Bert(pretrained=str(directory)))
    assert "missing: encoder.layer.1.output.dense.weight" in str(error.value)
    assert "unexpected: " in str(error.value)
    assert "encoder.layer.9.output.dense.weight" in str(error.value)


def test_assets_without_a_configuration_are_refused(bert_directory: Path, tmp_path: Path) -> None:
    config = Bert(pretrained=str(bert_directory))
    with pytest.raises(WeightsError, match=r"no valid config\.json"):
        config.build(config.build_tokenizer(), tmp_path)


def test_an_encoder_may_take_the_first_layers_or_chosen_ones(bert_directory: Path, tmp_path: Path) -> None:
    whole = built(Bert(pretrained=str(bert_directory))).model.encoder.layer
    for config, numbers in (
        (Bert(pretrained=str(bert_directory), layers=1), [0]),
        (Bert(pretrained=str(bert_directory), pretrained_layers=(1,)), [1]),
        (Bert(pretrained=str(bert_directory), pretrained_layers=(1, 0)), [1, 0]),
    ):
        encoder = built(config)
        layers = encoder.model.encoder.layer
        assert len(layers) == len(numbers)
        for layer, number in zip(layers, numbers, strict=True):
            assert_close(layer.state_dict(), whole[number].state_dict())
        encoder.save_assets(tmp_path)
        assert len(config.build(encoder.tokenizer, tmp_path).model.encoder.layer) == len(numbers)


def test_texts_can_be_read_from_left_to_right(bert_directory: Path, xlmr_directory: Path) -> None:
    for config in (Bert(pretrained=str(bert_directory)), XLMRoberta(pretrained=str(xlmr_directory))):
        encoder = built(config)
        special = encoder.tokenizer.special
        ids = torch.tensor([[special.cls, 7, 8, special.sep]])
        places = torch.arange(4)[None]
        everything = torch.ones(1, 4, 4, dtype=torch.bool)
        assert_close(encoder.read_partly(ids, everything, places), encoder(ids, everything[:, 0]))
        before = encoder.read_partly(ids, everything.tril(), places)
        other = encoder.read_partly(torch.tensor([[special.cls, 7, 9, 9]]), everything.tril(), places)
        assert_close(before[:, :2], other[:, :2])
        assert not torch.isclose(before[:, 2:], other[:, 2:]).all()
