"""Tiny published models, in place of those that a page downloads."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from timm.models import save_for_hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

TEXTS = ["a monkey beside a computer mouse", "ein Affe neben einer Maus", "un singe", "drei rote Herzen"]


def write_xlmr(directory: Path) -> None:
    """XLM-R base with one layer and a small Unigram tokenizer, as transformers saves it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>")
    tokenizer.train_from_iterator(TEXTS, trainer)
    named = dict(zip(("bos", "pad", "eos", "unk", "mask"), special, strict=True))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        cls_token="<s>",
        sep_token="</s>",
        **{f"{name}_token": token for name, token in named.items()},
    )
    fast.save_pretrained(directory)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=len(fast),
        hidden_size=768,
        num_hidden_layers=1,
        num_attention_heads=12,
        intermediate_size=64,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
    )
    XLMRobertaModel(config).save_pretrained(directory)


def write_bert(directory: Path) -> None:
    """BERT's tokenizer with as many ids as the narrow checkpoint of tests/interop/made.py has, 30522 // 200."""
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    words = iter(
        ["a", "the", "left", "right", "above", "below", "of", *(f"word{number}" for number in range(200))]
    )
    vocab = {special.get(number) or next(words): number for number in range(30522 // 200)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(directory)


def write_timm(name: str, directory: Path) -> None:
    """A vision transformer of this name with one narrow block, as timm saves it."""
    torch.manual_seed(0)
    model = timm.create_model(name.partition(".")[0], embed_dim=16, depth=1, num_heads=2)
    save_for_hf(model, str(directory), safe_serialization=True)
