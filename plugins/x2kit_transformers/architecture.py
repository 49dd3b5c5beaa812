"""What all text encoders here have in common: sizes, tokenizers, published weights. Imports no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from x2kit.plugin import (
    IdsOnly,
    NameOrPath,
    SettingError,
    TextEncoderConfig,
    TextFacts,
    Tokenizer,
)
from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.toolkit.pretrained import chosen_layers, published_config
from x2kit.plugin.toolkit.sentencepiece import SentencePiece, SentencePieceTokenizer
from x2kit_transformers.published import facts_of, longest_text, size_of, sizes_of

if TYPE_CHECKING:
    from x2kit.plugin import TextEncoder

Summary = Literal["cls", "mean"]

FROM_SCRATCH: dict[str, Any] = {
    "layers": 2,
    "width": 128,
    "heads": 4,
    "mlp_ratio": 4.0,
    "max_length": 64,
    "dropout": 0.0,
    "summary": "mean",
}
"""Settings of an encoder trained from scratch that the recipe leaves open, where it replaces no other encoder."""


class Architecture(TextEncoderConfig):
    """Published weights of a transformers encoder, or a small one trained from scratch."""

    pretrained: NameOrPath | None = Field(
        None, description="name on the Hugging Face hub, or a local directory; null trains from scratch"
    )
    layers: int | None = Field(
        None,
        ge=1,
        description="layers; null: the pretrained model's, from scratch the replaced encoder's, or 2",
    )
    pretrained_layers: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="numbers, from 0, of the pretrained model's layers that this encoder takes; null: the first "
        "`layers` of them",
    )
    width: int | None = Field(
        None,
        ge=1,
        description="hidden width D; null: the pretrained model's, from scratch "
        "the replaced encoder's, or 128",
    )
    heads: int | None = Field(
        None,
        ge=1,
        description="attention heads; null: the pretrained model's, from scratch "
        "the replaced encoder's, or 4",
    )
    mlp_ratio: float | None = Field(
        None,
        gt=0,
        description="width of the feed-forward part over D; null: the pretrained model's, from scratch "
        "the replaced encoder's, or 4",
    )
    max_length: int | None = Field(
        None,
        gt=2,
        description="longest text in tokens; null: what the pretrained model can read, from scratch "
        "the replaced encoder's, or 64",
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="of hidden states and attention; null: the pretrained model's, from scratch "
        "the replaced encoder's, or 0",
    )
    summary: Summary | None = Field(
        None,
        description="position 0 of the output: the first token, as in the paper, or the mean of all tokens, as in E5, "
        "which learns several times as fast from scratch; null: cls for pretrained weights, from scratch the "
        "replaced encoder's, or mean",
    )
    published_tokenizer: NameOrPath | None = Field(
        None,
        description="from scratch only: a tokenizer of the Hugging Face hub, or a directory that holds one, instead of "
        "one that is trained on the run's texts",
    )
    tokenizer: SentencePiece = Field(
        SentencePiece(), description="from scratch only: how the tokenizer is trained on the run's texts"
    )

    @abstractmethod
    def family_read(self) -> str | None:
        """The model_type that published weights must have; None for any."""
        raise NotImplementedError

    @abstractmethod
    def from_scratch(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """The transformers configuration of an encoder trained from scratch for this tokenizer, and its model_type."""
        raise NotImplementedError

    def size(self, name: str) -> Any:
        """A setting of an encoder trained from scratch, or its default."""
        value = getattr(self, name)
        return FROM_SCRATCH[name] if value is None else value

    def sizes(self) -> dict[str, Any]:
        """The values that this encoder has for the settings in `FROM_SCRATCH`."""
        if self.pretrained is None:
            return {name: self.size(name) for name in FROM_SCRATCH}
        written = {name: getattr(self, name) for name in FROM_SCRATCH}
        if None not in written.values():
            return written
        config = published_config("pretrained", self.pretrained)
        published = {
            **sizes_of(config),
            "layers": size_of(config, "layers"),
            "max_length": longest_text(config),
            "summary": "cls",
        }
        return {name: published.get(name) if value is None else value for name, value in written.items()}

    def in_place_of(self, other: ComponentConfig) -> Self:
        """Take over the sizes that are left open from the replaced encoder, unless published weights have their own.

        Its heads are taken over with its width alone, which they divide.
        """
        if self.pretrained is not None or not isinstance(other, TextEncoderConfig):
            return self
        if isinstance(other, Architecture):
            sizes = other.sizes()
        else:
            facts = other.describe()
            sizes = {"width": facts.width, "max_length": facts.max_length}
        if self.width not in (None, sizes["width"]):
            sizes = {name: value for name, value in sizes.items() if name != "heads"}
        return self.model_copy(
            update={
                name: value
                for name, value in sizes.items()
                if value is not None and getattr(self, name) is None
            }
        )

    def describe(self) -> TextFacts:
        return self._described_from_scratch() if self.pretrained is None else self._described(self.pretrained)

    def _described_from_scratch(self) -> TextFacts:
        if self.pretrained_layers is not None:
            raise SettingError("pretrained_layers", "there are none from scratch; name pretrained weights")
        width, heads = self.size("width"), self.size("heads")
        if width % heads:
            raise SettingError("heads", f"{heads} do not divide the width {width}; choose a divisor")
        return TextFacts(width, self.size("max_length"), None)

    def _described(self, pretrained: str) -> TextFacts:
        if self.published_tokenizer is not None:
            raise SettingError("published_tokenizer", "pretrained weights bring their own; leave this out")
        if self.tokenizer != SentencePiece():
            raise SettingError("tokenizer", "pretrained weights bring their own tokenizer; leave this out")
        config = published_config("pretrained", pretrained)
        found, read = config.get("model_type"), self.family_read()
        if read is not None and found != read:
            raise SettingError(
                "pretrained",
                f'{pretrained} is of type "{found}", {self.component_name()} reads "{read}"; '
                "HuggingFaceText reads any type",
            )
        for setting, value in sizes_of(config).items():
            wanted = getattr(self, setting)
            if wanted is not None and wanted != value:
                raise SettingError(setting, f"{wanted}, but {pretrained} has {value}; leave it out or agree")
        self._layers_of(config)
        return facts_of(config, self.max_length, FROM_SCRATCH["max_length"])

    def _layers_of(self, config: Mapping[str, Any]) -> tuple[int, ...] | None:
        """Numbers of the pretrained model's layers that this encoder takes; None for all."""
        if self.layers is None and self.pretrained_layers is None:
            return None
        available = size_of(config, "layers")
        if available is None:
            raise SettingError("layers", f"{self.pretrained} does not say how many it has; leave this out")
        return chosen_layers(self.layers, self.pretrained_layers, available, str(self.pretrained))

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        if self.pretrained is not None:
            return self.read_tokenizer(assets or self.pretrained)
        if assets is not None:
            return self._saved_tokenizer(assets)
        if self.published_tokenizer is not None:
            return self.read_tokenizer(self.published_tokenizer)
        if texts is None:
            raise SettingError("tokenizer", "it is trained on the run's texts, and none were given")
        return self.tokenizer.train(texts)

    def largest_tokenizer(self) -> Tokenizer:
        return self.tokenizer.largest()

    def read_tokenizer(self, source: str | Path) -> Tokenizer:
        """A published tokenizer, or one that was saved."""
        from x2kit_transformers.tokenizer import HuggingFaceTokenizer

        return HuggingFaceTokenizer.load(source)

    def _saved_tokenizer(self, directory: Path) -> Tokenizer:
        """The tokenizer that was saved with weights of an encoder without pretrained ones."""
        if (directory / IdsOnly.FILE_NAME).is_file():
            return IdsOnly.load(directory)
        if (directory / "tokenizer.json").is_file():
            return self.read_tokenizer(directory)
        return SentencePieceTokenizer.load(directory)

    def changes(self) -> Mapping[str, Any]:
        """What is laid over the configuration of published weights, by its own keys."""
        return {}

    def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
        from x2kit_transformers.building import empty_encoder, fresh_encoder, pretrained_encoder

        if self.pretrained is None:
            self.describe()
            return fresh_encoder(
                self.from_scratch(tokenizer), tokenizer, self.size("max_length"), self.size("summary")
            )
        summary = self.summary or "cls"
        if assets is not None:
            return empty_encoder(assets, tokenizer, self.max_length, summary)
        self.describe()
        return pretrained_encoder(
            self.pretrained,
            tokenizer,
            self.max_length,
            summary,
            self.changes(),
            self.dropout,
            self._layers_of(published_config("pretrained", self.pretrained)),
        )
