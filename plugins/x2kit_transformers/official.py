"""The text encoders of the papers, whose released checkpoints can be read. Imports neither torch nor transformers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field

from x2kit.plugin import IdsOnly, NameTable, SettingError, Shapes, SpecialIds, TextFacts, Tokenizer
from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.toolkit.official_keys import count, usual_heads
from x2kit.plugin.toolkit.pretrained import published_config
from x2kit.plugin.toolkit.sentencepiece import SentencePiece
from x2kit_transformers import heads as published_heads
from x2kit_transformers.architecture import Architecture
from x2kit_transformers.published import positions_before

if TYPE_CHECKING:
    from torch import Tensor

    from x2kit.plugin import TextDecoder


class _Official(Architecture):
    """What Bert and XLMRoberta share."""

    model_type: ClassVar[str]
    token_types: ClassVar[int]
    layer_norm_eps: ClassVar[float]
    published_vocab_size: ClassVar[int]
    """Ids of the vocabulary of the papers' checkpoint."""
    published_head: ClassVar[published_heads.PublishedHead]
    mlm_head: ClassVar[NameTable]
    """Names of the masked-language head in published files."""

    vocab_size: int | None = Field(
        None,
        gt=8,
        description="rows of the word embedding; null: the pretrained model's, from scratch as many as the tokenizer "
        "has ids; only for an encoder whose weights are to come from an official checkpoint",
    )

    def family_read(self) -> str:
        return self.model_type

    def in_place_of(self, other: ComponentConfig) -> Self:
        """Sizes as `Architecture.in_place_of`; the published vocabulary in place of another published one."""
        after = super().in_place_of(other)
        own_tokenizer = self.published_tokenizer is not None or self.tokenizer != SentencePiece()
        if self.pretrained is not None or self.vocab_size is not None or own_tokenizer:
            return after
        if not isinstance(other, _Official) or other.vocab_size is None:
            return after
        return after.model_copy(update={"vocab_size": self.published_vocab_size})

    def describe(self) -> TextFacts:
        if self.pretrained is not None and self.vocab_size is not None:
            raise SettingError("vocab_size", "pretrained weights bring their own; leave this out")
        facts = super().describe()
        return facts if self.pretrained is not None else facts._replace(vocab_size=self.vocab_size)

    def from_scratch(self, tokenizer: Tokenizer) -> dict[str, Any]:
        width, special = self.size("width"), tokenizer.special
        return {
            "model_type": self.model_type,
            "vocab_size": self.vocab_size or tokenizer.vocab_size,
            "hidden_size": width,
            "num_hidden_layers": self.size("layers"),
            "num_attention_heads": self.size("heads"),
            "intermediate_size": round(width * self.size("mlp_ratio")),
            "initializer_range": 0.02
            * math.sqrt(768 / width),  # BERT's at its width, wider for narrow layers
            **_dropout(self.size("dropout")),
            "max_position_embeddings": self.size("max_length")
            + positions_before(self.model_type, special.pad),
            "type_vocab_size": self.token_types,
            "layer_norm_eps": self.layer_norm_eps,
            "pad_token_id": special.pad,
            "bos_token_id": special.cls,
            "eos_token_id": special.sep,
        }

    def pretrained_mlm_head(self) -> dict[str, Tensor]:
        from x2kit_transformers.published_head import masked_language_head

        if self.pretrained is None:
            raise SettingError(
                "pretrained",
                "from scratch there is no masked-language head to begin with; set mlm_pretrained to false",
            )
        return masked_language_head(self.pretrained, [self.published_head])

    def build_decoder(self, tokenizer: Tokenizer, layers: int, assets: Path | None = None) -> TextDecoder:
        from x2kit_transformers.decoder import HuggingFaceDecoder

        if self.pretrained is None:
            return HuggingFaceDecoder(self.model_type, self.from_scratch(tokenizer), layers, self.mlm_head)
        config = published_config("pretrained", self.pretrained if assets is None else str(assets))
        dropout = {} if self.dropout is None else _dropout(self.dropout)
        return HuggingFaceDecoder(self.model_type, {**config, **dropout}, layers, self.mlm_head)

    @classmethod
    def published_ids(cls, vocab_size: int) -> SpecialIds:
        """The special ids of the published vocabulary of this many ids."""
        raise NotImplementedError

    def official_tokenizer(self, name: str | None) -> Tokenizer:
        if self.vocab_size is None:
            raise SettingError("vocab_size", "is not given, so the number of ids is not known")
        if name is None:
            return IdsOnly(self.vocab_size, self.published_ids(self.vocab_size))
        tokenizer = self.read_tokenizer(name)
        if tokenizer.vocab_size != self.vocab_size:
            raise SettingError(
                "vocab_size",
                f"the tokenizer {name} has {tokenizer.vocab_size} ids, the word embedding {self.vocab_size} rows",
            )
        return tokenizer

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
            max_length=positions[0] - positions_before(cls.model_type, cls.published_ids(vocab_size).pad),
            dropout=0.1,
            summary="cls",
            vocab_size=vocab_size,
        )


class Bert(_Official):
    """BERT (arXiv:1810.04805): pretrained, or by default a small one trained from scratch.

    The text encoder of X-VLM and X²-VLM, for English or, as mBERT, for many languages; the choice wherever an
    official checkpoint is continued or a result of the papers repeated.
    """

    model_type: ClassVar[str] = "bert"
    token_types: ClassVar[int] = 2
    layer_norm_eps: ClassVar[float] = 1e-12
    published_vocab_size: ClassVar[int] = 30522
    published_head: ClassVar[published_heads.PublishedHead] = published_heads.BERT
    mlm_head: ClassVar[NameTable] = published_heads.BERT.names

    @classmethod
    def published_ids(cls, vocab_size: int) -> SpecialIds:
        return SpecialIds(pad=0, cls=101, sep=102, unk=100, mask=103)


class XLMRoberta(_Official):
    """XLM-R (arXiv:1911.02116): pretrained, or by default a small one trained from scratch.

    The text encoder of CCLM and of the papers' swap: a hundred languages in one vocabulary.
    """

    model_type: ClassVar[str] = "xlm-roberta"
    token_types: ClassVar[int] = 1
    layer_norm_eps: ClassVar[float] = 1e-5
    published_vocab_size: ClassVar[int] = 250002
    published_head: ClassVar[published_heads.PublishedHead] = published_heads.ROBERTA
    mlm_head: ClassVar[NameTable] = published_heads.ROBERTA.names

    @classmethod
    def published_ids(cls, vocab_size: int) -> SpecialIds:
        return SpecialIds(pad=1, cls=0, sep=2, unk=3, mask=vocab_size - 1)


def _dropout(rate: float) -> dict[str, float]:
    return {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}
