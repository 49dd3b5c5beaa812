"""Settings of the text encoders. Imports neither torch nor transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from x2kit.plugin import (
    IdsOnly,
    NameOrPath,
    NameTable,
    SettingError,
    Shapes,
    SpecialIds,
    TextEncoderConfig,
    TextFacts,
    Tokenizer,
)
from x2kit.plugin.official import count, usual_heads
from x2kit.plugin.pretrained import chosen_layers, published_config
from x2kit.plugin.sentencepiece import SentencePiece, SentencePieceTokenizer
from x2kit_transformers.published import facts_of

if TYPE_CHECKING:
    from torch import Tensor

    from x2kit.plugin import TextDecoder, TextEncoder

FROM_SCRATCH: dict[str, Any] = {
    "layers": 2,
    "width": 128,
    "heads": 4,
    "mlp_ratio": 4.0,
    "max_length": 64,
    "dropout": 0.0,
    "summary": "mean",
}
"""What the settings of an encoder trained from scratch are if the recipe leaves them open."""

Summary = Literal["cls", "mean"]


class HuggingFaceText(TextEncoderConfig):
    """Any text encoder that transformers' AutoModel and AutoTokenizer read, with its pretrained weights."""

    pretrained: NameOrPath = Field(description="name on the Hugging Face hub, or a local directory")
    max_length: int | None = Field(
        None, gt=2, description="longest text in tokens; null: what the model can read"
    )
    summary: Summary = Field(
        "cls", description="position 0 of the output: the first token, or the mean of all, as in E5"
    )

    def describe(self) -> TextFacts:
        return facts_of(
            published_config("pretrained", self.pretrained), self.max_length, FROM_SCRATCH["max_length"]
        )

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        from x2kit_transformers.tokenizer import HuggingFaceTokenizer

        return HuggingFaceTokenizer.load(assets or self.pretrained)

    def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
        from x2kit_transformers.encoder import empty_encoder, pretrained_encoder

        if assets is not None:
            return empty_encoder(assets, tokenizer, self.max_length, self.summary)
        return pretrained_encoder(self.pretrained, tokenizer, self.max_length, self.summary, {})


class _Architecture(TextEncoderConfig):
    """What Bert and XLMRoberta share: pretrained weights, or a small encoder trained from scratch."""

    model_type: ClassVar[str]
    token_types: ClassVar[int]
    counts_from_pad: ClassVar[bool]
    """Whether positions begin at pad + 1, as in fairseq."""
    prefix: ClassVar[str]
    """What published names of the encoder's own tensors begin with."""
    mlm_head: ClassVar[NameTable]
    """Names of the masked-language head in published files."""

    pretrained: NameOrPath | None = Field(
        None, description="name on the Hugging Face hub, or a local directory; null trains from scratch"
    )
    layers: int | None = Field(None, ge=1, description="layers; null: the pretrained model's, from scratch 2")
    pretrained_layers: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="numbers, from 0, of the pretrained model's layers that this encoder takes; null: the first "
        "`layers` of them",
    )
    width: int | None = Field(
        None, ge=1, description="hidden width D; null: the pretrained model's, from scratch 128"
    )
    heads: int | None = Field(
        None, ge=1, description="attention heads; null: the pretrained model's, from scratch 4"
    )
    mlp_ratio: float | None = Field(
        None,
        gt=0,
        description="width of the feed-forward part over D; null: the pretrained model's, from scratch 4",
    )
    max_length: int | None = Field(
        None,
        gt=2,
        description="longest text in tokens; null: what the pretrained model can read, from scratch 64",
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="of hidden states and attention; null: the pretrained model's, from scratch 0",
    )
    summary: Summary | None = Field(
        None,
        description="position 0 of the output: the first token, as in the paper, or the mean of all tokens, which "
        "learns several times as fast from scratch; null: cls for pretrained weights, from scratch mean",
    )
    vocab_size: int | None = Field(
        None,
        gt=8,
        description="rows of the word embedding; null: the pretrained model's, from scratch as many as the tokenizer "
        "has ids; only for an encoder whose weights are to come from an official checkpoint",
    )
    published_tokenizer: NameOrPath | None = Field(
        None,
        description="from scratch only: a tokenizer of the Hugging Face hub, or a directory that holds one, instead of "
        "one that is trained on the run's texts",
    )
    tokenizer: SentencePiece = Field(
        SentencePiece(), description="from scratch only: how the tokenizer is trained on the run's texts"
    )

    def size(self, name: str) -> Any:
        """A setting of an encoder trained from scratch, or its default."""
        value = getattr(self, name)
        return FROM_SCRATCH[name] if value is None else value

    def describe(self) -> TextFacts:
        if self.pretrained is None:
            if self.pretrained_layers is not None:
                raise SettingError(
                    "pretrained_layers", "there are none from scratch; name pretrained weights"
                )
            if self.size("width") % self.size("heads"):
                raise SettingError(
                    "heads",
                    f"{self.size('heads')} do not divide the width {self.size('width')}; choose a divisor",
                )
            return TextFacts(self.size("width"), self.size("max_length"), self.vocab_size)
        if self.published_tokenizer is not None or self.vocab_size is not None:
            name = "vocab_size" if self.published_tokenizer is None else "published_tokenizer"
            raise SettingError(name, "pretrained weights bring their own; leave this out")
        if self.tokenizer != SentencePiece():
            raise SettingError("tokenizer", "pretrained weights bring their own tokenizer; leave this out")
        config = published_config("pretrained", self.pretrained)
        found = config.get("model_type")
        if found != self.model_type:
            raise SettingError(
                "pretrained",
                f'{self.pretrained} is of type "{found}", {self.component_name()} reads "{self.model_type}"; '
                "HuggingFaceText reads any type",
            )
        for setting, value in self._sizes_of(config).items():
            wanted = getattr(self, setting)
            if wanted is not None and wanted != value:
                raise SettingError(
                    setting, f"{wanted}, but {self.pretrained} has {value}; leave it out or agree"
                )
        self._layers_of(config)
        return facts_of(config, self.max_length, FROM_SCRATCH["max_length"])

    def _layers_of(self, config: Mapping[str, Any]) -> tuple[int, ...]:
        """Numbers of the pretrained model's layers that this encoder takes."""
        available = config["num_hidden_layers"]
        return chosen_layers(self.layers, self.pretrained_layers, available, str(self.pretrained))

    @staticmethod
    def _sizes_of(config: Mapping[str, Any]) -> dict[str, Any]:
        width = config["hidden_size"]
        return {
            "width": width,
            "heads": config["num_attention_heads"],
            "mlp_ratio": config["intermediate_size"] / width,
        }

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        if self.pretrained is not None:
            from x2kit_transformers.tokenizer import HuggingFaceTokenizer

            return HuggingFaceTokenizer.load(assets or self.pretrained)
        if assets is not None:
            return _saved_tokenizer(assets)
        if self.published_tokenizer is not None:
            from x2kit_transformers.tokenizer import HuggingFaceTokenizer

            return HuggingFaceTokenizer.load(self.published_tokenizer)
        if texts is None:
            raise SettingError("tokenizer", "it is trained on the run's texts, and none were given")
        return self.tokenizer.train(texts)

    def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
        from x2kit_transformers.encoder import empty_encoder, fresh_encoder, pretrained_encoder

        if self.pretrained is None:
            self.describe()
            return fresh_encoder(
                self.model_type,
                self.from_scratch(tokenizer),
                tokenizer,
                self.size("max_length"),
                self.size("summary"),
            )
        summary = self.summary or "cls"
        if assets is not None:
            return empty_encoder(assets, tokenizer, self.max_length, summary)
        self.describe()
        dropout = {} if self.dropout is None else _dropout(self.dropout)
        layers = self._layers_of(published_config("pretrained", self.pretrained))
        return pretrained_encoder(self.pretrained, tokenizer, self.max_length, summary, dropout, layers)

    def from_scratch(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """The transformers configuration of an encoder trained from scratch for this tokenizer."""
        width = self.size("width")
        return {
            "vocab_size": self.vocab_size or tokenizer.vocab_size,
            "hidden_size": width,
            "num_hidden_layers": self.size("layers"),
            "num_attention_heads": self.size("heads"),
            "intermediate_size": round(width * self.size("mlp_ratio")),
            "initializer_range": 0.02
            * math.sqrt(768 / width),  # BERT's at its width, wider for narrow layers
            **_dropout(self.size("dropout")),
            "max_position_embeddings": self.size("max_length")
            + (tokenizer.special.pad + 1 if self.counts_from_pad else 0),
            "type_vocab_size": self.token_types,
            **_special(tokenizer.special),
        }

    def pretrained_mlm_head(self) -> dict[str, Tensor]:
        from x2kit_transformers.published_head import masked_language_head

        if self.pretrained is None:
            raise SettingError(
                "pretrained",
                "from scratch there is no masked-language head to begin with; set mlm_pretrained to false",
            )
        return masked_language_head(self.pretrained, self.mlm_head, self.prefix)

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
        from x2kit_transformers.tokenizer import HuggingFaceTokenizer

        tokenizer = HuggingFaceTokenizer.load(name)
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
        before = cls.published_ids(vocab_size).pad + 1 if cls.counts_from_pad else 0
        return cls(
            layers=count(shapes, "encoder.layer.{n}."),
            width=width,
            heads=usual_heads(width, heads),
            mlp_ratio=inner[0] / width,
            max_length=positions[0] - before,
            dropout=0.1,
            summary="cls",
            vocab_size=vocab_size,
        )


class Bert(_Architecture):
    """BERT (arXiv:1810.04805): pretrained, or by default a small one trained from scratch."""

    model_type: ClassVar[str] = "bert"
    token_types: ClassVar[int] = 2
    counts_from_pad: ClassVar[bool] = False
    prefix: ClassVar[str] = "bert."
    mlm_head: ClassVar[NameTable] = NameTable(
        [
            ("dense.{leaf}", "cls.predictions.transform.dense.{leaf}"),
            ("norm.{leaf}", "cls.predictions.transform.LayerNorm.{leaf}"),
            ("decoder.weight", "cls.predictions.decoder.weight"),
            ("decoder.bias", "cls.predictions.bias"),
        ]
    )

    def from_scratch(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return {**super().from_scratch(tokenizer), "layer_norm_eps": 1e-12}

    @classmethod
    def published_ids(cls, vocab_size: int) -> SpecialIds:
        return SpecialIds(pad=0, cls=101, sep=102, unk=100, mask=103)


class XLMRoberta(_Architecture):
    """XLM-R (arXiv:1911.02116): pretrained, or by default a small one trained from scratch."""

    model_type: ClassVar[str] = "xlm-roberta"
    token_types: ClassVar[int] = 1
    counts_from_pad: ClassVar[bool] = True
    prefix: ClassVar[str] = "roberta."
    mlm_head: ClassVar[NameTable] = NameTable(
        [
            ("dense.{leaf}", "lm_head.dense.{leaf}"),
            ("norm.{leaf}", "lm_head.layer_norm.{leaf}"),
            ("decoder.weight", "lm_head.decoder.weight"),
            ("decoder.bias", "lm_head.bias"),
        ]
    )

    def from_scratch(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return {**super().from_scratch(tokenizer), "layer_norm_eps": 1e-5}

    @classmethod
    def published_ids(cls, vocab_size: int) -> SpecialIds:
        return SpecialIds(pad=1, cls=0, sep=2, unk=3, mask=vocab_size - 1)


def _saved_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer that was saved with weights of an encoder without pretrained ones."""
    if (directory / IdsOnly.FILE_NAME).is_file():
        return IdsOnly.load(directory)
    if (directory / "tokenizer.json").is_file():
        from x2kit_transformers.tokenizer import HuggingFaceTokenizer

        return HuggingFaceTokenizer.load(directory)
    return SentencePieceTokenizer.load(directory)


def _dropout(rate: float) -> dict[str, float]:
    return {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}


def _special(special: SpecialIds) -> dict[str, int]:
    return {"pad_token_id": special.pad, "bos_token_id": special.cls, "eos_token_id": special.sep}
