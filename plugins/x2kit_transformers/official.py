"""Settings of the papers' text encoders, which read official checkpoints. Imports neither torch nor transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field

from x2kit.plugin import (
    ComponentConfig,
    IdsOnly,
    NameTable,
    SettingError,
    Shapes,
    SpecialIds,
    TextFacts,
    Tokenizer,
    WithoutEnd,
)
from x2kit.plugin.toolkit import SentencePiece, count, published_config, usual_heads
from x2kit_transformers import mlm_heads
from x2kit_transformers.config import TransformersText
from x2kit_transformers.sizes import position_offset

if TYPE_CHECKING:
    from torch import Tensor

    from x2kit.plugin import TextDecoder


class _BertConfig(TransformersText):
    """Base of Bert and XLMRoberta."""

    model_type: ClassVar[str]
    token_types: ClassVar[int]
    layer_norm_eps: ClassVar[float]
    published_vocab_size: ClassVar[int]
    """Vocabulary size of the papers' checkpoint."""
    usual_tokenizer_name: ClassVar[str]
    """Published tokenizer of that vocabulary."""
    published_head: ClassVar[mlm_heads.PublishedHead]
    mlm_head: ClassVar[NameTable]
    """Names of the masked-language head in published files."""

    vocab_size: int | None = Field(
        None,
        gt=8,
        description="rows of the word embedding, to load an official checkpoint; null: the pretrained model's, from "
        "scratch the number of ids of the tokenizer",
    )

    def required_type(self) -> str:
        return self.model_type

    def in_place_of(self, other: ComponentConfig) -> Self:
        """Copy sizes as `TransformersText` does; replace a published vocabulary by this encoder's."""
        after = super().in_place_of(other)
        own_tokenizer = self.published_tokenizer is not None or self.tokenizer != SentencePiece()
        if self.pretrained is not None or self.vocab_size is not None or own_tokenizer:
            return after
        if not isinstance(other, _BertConfig) or other.vocab_size is None:
            return after
        return after.model_copy(update={"vocab_size": self.published_vocab_size})

    def describe(self) -> TextFacts:
        if self.pretrained is not None and self.vocab_size is not None:
            raise SettingError("vocab_size", "pretrained weights have their own; remove this")
        facts = super().describe()
        return facts if self.pretrained is not None else facts._replace(vocab_size=self.vocab_size)

    def from_scratch(self, tokenizer: Tokenizer) -> dict[str, Any]:
        width, special = self.size("width"), tokenizer.special
        if self.vocab_size is not None and tokenizer.vocab_size > self.vocab_size:
            raise SettingError(
                "vocab_size",
                f"the tokenizer has {tokenizer.vocab_size} ids, more than the {self.vocab_size} rows of the word "
                "embedding; leave vocab_size out, or set it to at least that number",
            )
        return {
            "model_type": self.model_type,
            "vocab_size": self.vocab_size or tokenizer.vocab_size,
            "hidden_size": width,
            "num_hidden_layers": self.size("layers"),
            "num_attention_heads": self.size("heads"),
            "intermediate_size": round(width * self.size("mlp_ratio")),
            "initializer_range": 0.02
            * math.sqrt(768 / width),  # BERT's at its width, larger for narrow layers
            **_dropout(self.size("dropout")),
            "max_position_embeddings": self.size("max_length")
            + position_offset(self.model_type, special.pad),
            "type_vocab_size": self.token_types,
            "layer_norm_eps": self.layer_norm_eps,
            "pad_token_id": special.pad,
            "bos_token_id": special.cls,
            "eos_token_id": special.sep,
        }

    def pretrained_mlm_head(self) -> dict[str, Tensor]:
        return self.published_mlm_head([self.published_head])

    def build_decoder(self, tokenizer: Tokenizer, layers: int, assets: Path | None = None) -> TextDecoder:
        from x2kit_transformers.decoder import HuggingFaceDecoder

        if self.pretrained is None:
            return HuggingFaceDecoder(self.model_type, self.from_scratch(tokenizer), layers, self.mlm_head)
        config = published_config("pretrained", self.pretrained if assets is None else str(assets))
        dropout = {} if self.dropout is None else _dropout(self.dropout)
        return HuggingFaceDecoder(self.model_type, {**config, **dropout}, layers, self.mlm_head)

    @classmethod
    def published_ids(cls, vocab_size: int) -> SpecialIds:
        """Return the special ids of the published vocabulary of this size."""
        raise NotImplementedError

    def official_tokenizer(self, name: str | None) -> Tokenizer:
        if self.vocab_size is None:
            raise SettingError("vocab_size", "required to read an official checkpoint")
        if name is None:
            return IdsOnly(self.vocab_size, self.published_ids(self.vocab_size))
        tokenizer = self.read_tokenizer(name)
        if tokenizer.vocab_size != self.vocab_size:
            raise SettingError(
                "vocab_size",
                f"the tokenizer {name} has {tokenizer.vocab_size} ids, the word embedding {self.vocab_size} rows",
            )
        return tokenizer

    def usual_tokenizer(self) -> str | None:
        return self.usual_tokenizer_name if self.vocab_size == self.published_vocab_size else None

    @classmethod
    def from_official(cls, shapes: Shapes, heads: int | None = None) -> Self | None:
        words, types = (shapes.get(f"embeddings.{name}_embeddings.weight") for name in ("word", "token_type"))
        positions = shapes.get("embeddings.position_embeddings.weight")
        inner = shapes.get("encoder.layer.0.intermediate.dense.weight")
        if not (words and types and positions and inner) or types[0] != cls.token_types:
            return None
        vocab_size, width = words
        return cls(
            layers=count(shapes, "encoder.layer.{n}."),
            width=width,
            heads=usual_heads(width, heads),
            mlp_ratio=inner[0] / width,
            max_length=positions[0] - position_offset(cls.model_type, cls.published_ids(vocab_size).pad),
            dropout=0.1,
            summary="cls",
            vocab_size=vocab_size,
        )


class Bert(_BertConfig):
    """BERT (arXiv:1810.04805): pretrained, or by default a small one trained from scratch.

    The text encoder of X-VLM and X²-VLM, for English or, as mBERT, for many languages. Use it to continue an official
    checkpoint or to reproduce a result of the papers.
    """

    model_type: ClassVar[str] = "bert"
    token_types: ClassVar[int] = 2
    layer_norm_eps: ClassVar[float] = 1e-12
    published_vocab_size: ClassVar[int] = 30522
    usual_tokenizer_name: ClassVar[str] = "bert-base-uncased"
    published_head: ClassVar[mlm_heads.PublishedHead] = mlm_heads.BERT
    mlm_head: ClassVar[NameTable] = mlm_heads.BERT.names

    end_token: bool = Field(
        True,
        description="texts end in [SEP]; false for checkpoints of X-VLM, whose own tokenizer adds none",
    )

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        tokenizer = super().build_tokenizer(texts, assets)
        return tokenizer if self.end_token else WithoutEnd(tokenizer)

    def official_tokenizer(self, name: str | None) -> Tokenizer:
        tokenizer = super().official_tokenizer(name)
        return tokenizer if self.end_token else WithoutEnd(tokenizer)

    @property
    def ends_texts(self) -> bool:
        return self.end_token

    def without_end_token(self) -> Self:
        return self.model_copy(update={"end_token": False})

    @classmethod
    def published_ids(cls, vocab_size: int) -> SpecialIds:
        return SpecialIds(pad=0, cls=101, sep=102, unk=100, mask=103)


class XLMRoberta(_BertConfig):
    """XLM-R (arXiv:1911.02116): pretrained, or by default a small one trained from scratch.

    The text encoder of CCLM and of the papers' swap, with one vocabulary for a hundred languages.
    """

    model_type: ClassVar[str] = "xlm-roberta"
    token_types: ClassVar[int] = 1
    layer_norm_eps: ClassVar[float] = 1e-5
    official_stack: ClassVar[bool | None] = False
    published_vocab_size: ClassVar[int] = 250002
    usual_tokenizer_name: ClassVar[str] = "xlm-roberta-base"
    published_head: ClassVar[mlm_heads.PublishedHead] = mlm_heads.ROBERTA
    mlm_head: ClassVar[NameTable] = mlm_heads.ROBERTA.names

    @classmethod
    def published_ids(cls, vocab_size: int) -> SpecialIds:
        return SpecialIds(pad=1, cls=0, sep=2, unk=3, mask=vocab_size - 1)


class CclmText(_BertConfig):
    """The text layers of the first CCLM: BERT's layers with XLM-R's vocabulary and epsilon.

    Only official checkpoints need it. CCLM's own code gives XLM-R's tokens the positions 0, 1, 2, ..., where XLMRoberta
    starts at 2, so the weights of one do not suit the other.
    """

    model_type: ClassVar[str] = "bert"
    token_types: ClassVar[int] = 1
    layer_norm_eps: ClassVar[float] = 1e-5
    official_stack: ClassVar[bool | None] = True
    published_vocab_size: ClassVar[int] = 250002
    usual_tokenizer_name: ClassVar[str] = "xlm-roberta-base"
    published_head: ClassVar[mlm_heads.PublishedHead] = mlm_heads.BERT
    mlm_head: ClassVar[NameTable] = mlm_heads.BERT.names

    @classmethod
    def published_ids(cls, vocab_size: int) -> SpecialIds:
        return XLMRoberta.published_ids(vocab_size)


def _dropout(rate: float) -> dict[str, float]:
    return {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}
