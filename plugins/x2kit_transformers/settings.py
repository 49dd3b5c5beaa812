"""Settings of the text encoders. Imports neither torch nor transformers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from x2kit.plugin import (
    NameOrPath,
    SettingError,
    SpecialIds,
    TextEncoderConfig,
    TextFacts,
    Tokenizer,
)
from x2kit.plugin.pretrained import pretrained_file, read_json
from x2kit.plugin.sentencepiece import SentencePiece, SentencePieceTokenizer

if TYPE_CHECKING:
    from x2kit.plugin import TextEncoder

FROM_SCRATCH: dict[str, Any] = {
    "layers": 2,
    "width": 128,
    "heads": 4,
    "mlp_ratio": 4.0,
    "max_length": 64,
    "dropout": 0.0,
}
"""What the sizes of an encoder trained from scratch are if the recipe leaves them open."""


class HuggingFaceText(TextEncoderConfig):
    """Any text encoder that transformers' AutoModel and AutoTokenizer read, with its pretrained weights."""

    pretrained: NameOrPath = Field(description="name on the Hugging Face hub, or a local directory")
    max_length: int | None = Field(
        None, gt=2, description="longest text in tokens; null: what the model can read"
    )

    def describe(self) -> TextFacts:
        return _facts_of(published_config(self.pretrained), self.max_length)

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        from x2kit_transformers.tokenizer import HuggingFaceTokenizer

        return HuggingFaceTokenizer.load(assets or self.pretrained)

    def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
        from x2kit_transformers.encoder import empty_encoder, pretrained_encoder

        if assets is not None:
            return empty_encoder(assets, tokenizer, self.max_length)
        return pretrained_encoder(self.pretrained, tokenizer, self.max_length, {})


class _Architecture(TextEncoderConfig):
    """What Bert and XLMRoberta share: pretrained weights, or a small encoder trained from scratch."""

    model_type: ClassVar[str]

    pretrained: NameOrPath | None = Field(
        None, description="name on the Hugging Face hub, or a local directory; null trains from scratch"
    )
    layers: int | None = Field(None, ge=1, description="layers; null: the pretrained model's, from scratch 2")
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
    tokenizer: SentencePiece = Field(
        SentencePiece(), description="from scratch only: how the tokenizer is trained on the run's texts"
    )

    def size(self, name: str) -> Any:
        """A size of an encoder trained from scratch, or its default."""
        value = getattr(self, name)
        return FROM_SCRATCH[name] if value is None else value

    def describe(self) -> TextFacts:
        if self.pretrained is None:
            if self.size("width") % self.size("heads"):
                raise SettingError(
                    "heads",
                    f"{self.size('heads')} do not divide the width {self.size('width')}; choose a divisor",
                )
            return TextFacts(self.size("width"), self.size("max_length"), None)
        if self.tokenizer != SentencePiece():
            raise SettingError("tokenizer", "pretrained weights bring their own tokenizer; leave this out")
        config = published_config(self.pretrained)
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
        return _facts_of(config, self.max_length)

    @staticmethod
    def _sizes_of(config: Mapping[str, Any]) -> dict[str, Any]:
        width = config["hidden_size"]
        return {
            "layers": config["num_hidden_layers"],
            "width": width,
            "heads": config["num_attention_heads"],
            "mlp_ratio": config["intermediate_size"] / width,
        }

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        if self.pretrained is not None:
            from x2kit_transformers.tokenizer import HuggingFaceTokenizer

            return HuggingFaceTokenizer.load(assets or self.pretrained)
        if assets is not None:
            return SentencePieceTokenizer.load(assets)
        if texts is None:
            raise SettingError("tokenizer", "it is trained on the run's texts, and none were given")
        return self.tokenizer.train(texts)

    def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
        from x2kit_transformers.encoder import empty_encoder, fresh_encoder, pretrained_encoder

        if self.pretrained is None:
            self.describe()
            return fresh_encoder(
                self.model_type, self.from_scratch(tokenizer), tokenizer, self.size("max_length")
            )
        if assets is not None:
            return empty_encoder(assets, tokenizer, self.max_length)
        self.describe()
        dropout = {} if self.dropout is None else _dropout(self.dropout)
        return pretrained_encoder(self.pretrained, tokenizer, self.max_length, dropout)

    def from_scratch(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """The transformers configuration of an encoder trained from scratch for this tokenizer."""
        width = self.size("width")
        return {
            "vocab_size": tokenizer.vocab_size,
            "hidden_size": width,
            "num_hidden_layers": self.size("layers"),
            "num_attention_heads": self.size("heads"),
            "intermediate_size": round(width * self.size("mlp_ratio")),
            "initializer_range": 0.02
            * math.sqrt(768 / width),  # BERT's at its width, wider for narrow layers
            **_dropout(self.size("dropout")),
            **_special(tokenizer.special),
        }


class Bert(_Architecture):
    """BERT (arXiv:1810.04805): pretrained, or by default a small one trained from scratch."""

    model_type: ClassVar[str] = "bert"

    def from_scratch(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return {
            **super().from_scratch(tokenizer),
            "max_position_embeddings": self.size("max_length"),
            "type_vocab_size": 2,
            "layer_norm_eps": 1e-12,
        }


class XLMRoberta(_Architecture):
    """XLM-R (arXiv:1911.02116): pretrained, or by default a small one trained from scratch."""

    model_type: ClassVar[str] = "xlm-roberta"

    def from_scratch(self, tokenizer: Tokenizer) -> dict[str, Any]:
        return {
            **super().from_scratch(tokenizer),
            # positions count from pad + 1, as in fairseq
            "max_position_embeddings": self.size("max_length") + tokenizer.special.pad + 1,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
        }


def published_config(pretrained: str) -> dict[str, Any]:
    """The config.json of a published or local model. Raises SettingError if there is none."""
    file = pretrained_file("pretrained", pretrained, "config.json")
    if file is None:
        raise SettingError("pretrained", f"{pretrained} has no config.json, so it is no transformers model")
    return read_json("pretrained", file)


def longest_text(config: Mapping[str, Any]) -> int | None:
    """Most tokens that a model can read, None if its positions have no end."""
    for key in ("max_position_embeddings", "n_positions", "seq_length"):
        if config.get(key):
            counts_from_pad = config.get("model_type") in (
                "roberta",
                "xlm-roberta",
                "camembert",
                "xlm-roberta-xl",
            )
            return int(config[key]) - (int(config.get("pad_token_id", 1)) + 1 if counts_from_pad else 0)
    return None


def _facts_of(config: Mapping[str, Any], max_length: int | None) -> TextFacts:
    width = next(
        (int(config[key]) for key in ("hidden_size", "d_model", "dim", "n_embd") if config.get(key)), None
    )
    if width is None:
        raise SettingError(
            "pretrained", f'its config.json (type "{config.get("model_type")}") names no hidden_size'
        )
    longest = longest_text(config)
    if max_length is not None and longest is not None and max_length > longest:
        raise SettingError(
            "max_length", f"{max_length}, but the pretrained model reads at most {longest} tokens"
        )
    return TextFacts(width, max_length or longest or FROM_SCRATCH["max_length"], config.get("vocab_size"))


def _dropout(rate: float) -> dict[str, float]:
    return {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}


def _special(special: SpecialIds) -> dict[str, int]:
    return {"pad_token_id": special.pad, "bos_token_id": special.cls, "eos_token_id": special.sep}
