"""Tiny models of many families, written with the libraries that publish them, each with its usual kind of tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
)

from x2kit.testing.subjects import TEXTS

BERT_NAMES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA_NAMES = {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
DEBERTA_V3: dict[str, Any] = {
    "relative_attention": True,
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
"""What the config.json of DeBERTa-v3 says beside its sizes."""

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
}
DISTIL_SIZES = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 24}
FAMILIES: dict[str, dict[str, Any]] = {
    "roberta": {**SIZES, "max_position_embeddings": 26, "type_vocab_size": 1},
    "mbert": {**SIZES, "model_type": "bert"},
    "distilbert": DISTIL_SIZES,
    "deberta-v3": {**SIZES, **DEBERTA_V3, "model_type": "deberta-v2"},
    "modernbert": {**SIZES, "local_attention": 4, "tie_word_embeddings": True},
    "e5": {**SIZES, "max_position_embeddings": 26, "model_type": "xlm-roberta", "type_vocab_size": 1},
}
HEADLESS = frozenset({"e5"})
"""Published as an encoder alone."""


def publish(name: str, directory: Path, *, with_head: bool | None = None) -> Path:
    """Write a model and its tokenizer, as on the hub; with a masked-language head where its family has one."""
    settings = dict(FAMILIES[name])
    tokenizer = _TOKENIZERS[name]()
    tokenizer.save_pretrained(directory)
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
    }
    config = AutoConfig.for_model(
        settings.pop("model_type", name), vocab_size=len(tokenizer), initializer_range=0.3, **ids, **settings
    )
    torch.manual_seed(0)
    headed = name not in HEADLESS if with_head is None else with_head
    kind = AutoModelForMaskedLM if headed else AutoModel
    kind.from_config(config).save_pretrained(directory)
    return directory


def _named(tokenizer: Tokenizer, names: dict[str, str]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{role}_token": token for role, token in names.items()}
    )


def wordpiece() -> BertTokenizerFast:
    """BERT's."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=list(BERT_NAMES.values()))
    tokenizer.train_from_iterator(TEXTS, trainer)
    return BertTokenizerFast(vocab=tokenizer.get_vocab(with_added_tokens=True))


def byte_level(names: dict[str, str]) -> PreTrainedTokenizerFast:
    """RoBERTa's and ModernBERT's: merges of bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(names.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return _named(tokenizer, names)


def unigram(names: dict[str, str]) -> PreTrainedTokenizerFast:
    """XLM-R's and DeBERTa-v3's: SentencePiece."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=110, special_tokens=list(names.values()), unk_token=names["unk"]
    )
    tokenizer.train_from_iterator([*TEXTS, "query: passage:"], trainer)
    return _named(tokenizer, names)


_TOKENIZERS = {
    "roberta": lambda: byte_level(ROBERTA_NAMES),
    "mbert": wordpiece,
    "distilbert": wordpiece,
    "deberta-v3": lambda: unigram(BERT_NAMES),
    "modernbert": lambda: byte_level(BERT_NAMES),
    "e5": lambda: unigram(ROBERTA_NAMES),
}
