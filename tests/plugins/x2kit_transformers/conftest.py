"""Tiny published models, written with the libraries that publish them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertTokenizerFast,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from x2kit.testing.subjects import TEXTS


@pytest.fixture(scope="session")
def bert_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT for masked language modelling with a WordPiece tokenizer."""
    directory = tmp_path_factory.mktemp("bert")
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=90, special_tokens=special))
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    fast = BertTokenizerFast(vocab=vocab)
    fast.save_pretrained(directory)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(fast),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    BertForMaskedLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def xlmr_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An XLM-R for masked language modelling with a Unigram tokenizer."""
    directory = tmp_path_factory.mktemp("xlmr")
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=100, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(TEXTS, trainer)
    from tokenizers import decoders

    tokenizer.decoder = decoders.Metaspace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
    fast.save_pretrained(directory)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=len(fast),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=26,
        type_vocab_size=1,
        pad_token_id=1,
        layer_norm_eps=1e-5,
    )
    XLMRobertaForMaskedLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def distilbert_directory(bert_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that has no class of its own here."""
    directory = tmp_path_factory.mktemp("distilbert")
    fast = BertTokenizerFast.from_pretrained(bert_directory)
    fast.save_pretrained(directory)
    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=len(fast), dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=20
    )
    DistilBertModel(config).save_pretrained(directory)
    return directory
