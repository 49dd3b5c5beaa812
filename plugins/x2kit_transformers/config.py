"""Settings of transformers text encoders: the base of all, and any model by its name. Imports no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from x2kit.plugin import (
    ComponentConfig,
    IdsOnly,
    NameOrPath,
    SettingError,
    TextEncoderConfig,
    TextFacts,
    Tokenizer,
)
from x2kit.plugin.toolkit import SentencePiece, SentencePieceTokenizer, chosen_layers, published_config
from x2kit_transformers.mlm_heads import PUBLISHED, PublishedHead
from x2kit_transformers.sizes import SIZE_KEYS, facts_from, longest_text, size_of, sizes_of

if TYPE_CHECKING:
    from torch import Tensor

    from x2kit.plugin import TextDecoder, TextEncoder

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
"""Defaults of an encoder trained from scratch that does not replace another one."""

SETTING_OF = {
    "width": "width",
    "layers": "layers",
    "heads": "heads",
    "inner": "mlp_ratio",
    "positions": "max_length",
}
"""Setting of a recipe for each size of a config.json."""


NOT_EXPORTED = {
    "mobilebert": "MobileBERT joins each token with its neighbours, which fixes the shortest text",
    "big_bird": "BigBird reads texts of more than 704 tokens by another attention than shorter ones",
}
"""Families that `torch.export` cannot trace with free text length, and why."""


class TransformersText(TextEncoderConfig):
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
        description="numbers, from 0, of the pretrained model's layers to use; null for the first `layers` of them",
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
        description="longest text in tokens; null: the pretrained model's limit, from scratch "
        "the replaced encoder's, or 64",
    )
    dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="dropout of hidden states and attention; null: the pretrained model's, from scratch "
        "the replaced encoder's, or 0",
    )
    summary: Summary | None = Field(
        None,
        description="position 0 of the output: the first token, as in the paper, or the mean of all tokens, as in E5, "
        "which learns several times faster from scratch; null: cls for pretrained weights, from scratch the "
        "replaced encoder's, or mean",
    )
    published_tokenizer: NameOrPath | None = Field(
        None,
        description="from scratch only: a tokenizer of the Hugging Face hub or of a local directory, instead of one "
        "trained on the run's texts",
    )
    tokenizer: SentencePiece = Field(
        SentencePiece(), description="from scratch only: training of the tokenizer on the run's texts"
    )

    @abstractmethod
    def required_type(self) -> str | None:
        """Return the model_type that published weights must have; None for any."""
        raise NotImplementedError

    @abstractmethod
    def from_scratch(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """Return the transformers configuration, with model_type, of an encoder trained from scratch."""
        raise NotImplementedError

    def size(self, name: str) -> Any:
        """Return a size of an encoder trained from scratch, or its default."""
        value = getattr(self, name)
        return FROM_SCRATCH[name] if value is None else value

    def sizes(self) -> dict[str, Any]:
        """Resolve the settings in `FROM_SCRATCH`."""
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
        """Copy the sizes that are not set from the replaced encoder, unless there are published weights.

        Its number of heads is copied only with its width.
        """
        if self.pretrained is not None or not isinstance(other, TextEncoderConfig):
            return self
        if isinstance(other, TransformersText):
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
            raise SettingError("pretrained_layers", "needs pretrained weights; set pretrained or remove this")
        width, heads = self.size("width"), self.size("heads")
        if width % heads:
            raise SettingError("heads", f"{heads} heads do not divide the width {width}; use a divisor")
        return TextFacts(width, self.size("max_length"), None)

    def _described(self, pretrained: str) -> TextFacts:
        if self.published_tokenizer is not None:
            raise SettingError("published_tokenizer", "pretrained weights have their own; remove this")
        if self.tokenizer != SentencePiece():
            raise SettingError("tokenizer", "pretrained weights have their own tokenizer; remove this")
        config = published_config("pretrained", pretrained)
        found, read = config.get("model_type"), self.required_type()
        if read is not None and found != read:
            raise SettingError(
                "pretrained",
                f'{pretrained} is of type "{found}", {self.component_name()} needs "{read}"; '
                "HuggingFaceText reads any type",
            )
        for setting, value in sizes_of(config).items():
            wanted = getattr(self, setting)
            if wanted is not None and wanted != value:
                raise SettingError(
                    setting, f"{wanted}, but {pretrained} has {value}; remove it or set the same value"
                )
        self._layers_of(config)
        return facts_from(config, self.max_length, FROM_SCRATCH["max_length"])

    def _layers_of(self, config: Mapping[str, Any]) -> tuple[int, ...] | None:
        """Return the numbers of the pretrained layers to use; None for all."""
        if self.layers is None and self.pretrained_layers is None:
            return None
        available = size_of(config, "layers")
        if available is None:
            raise SettingError(
                "layers", f"the config.json of {self.pretrained} has no number of layers; remove this"
            )
        return chosen_layers(self.layers, self.pretrained_layers, available, str(self.pretrained))

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        if self.pretrained is not None:
            return self.read_tokenizer(assets or self.pretrained)
        if assets is not None:
            return self._saved_tokenizer(assets)
        if self.published_tokenizer is not None:
            return self.read_tokenizer(self.published_tokenizer)
        if texts is None:
            raise SettingError("tokenizer", "is trained on the run's texts, but there are none")
        return self.tokenizer.train(texts)

    def largest_tokenizer(self) -> Tokenizer:
        return self.tokenizer.largest()

    def read_tokenizer(self, source: str | Path) -> Tokenizer:
        """Read a published tokenizer or a saved one."""
        from x2kit_transformers.tokenizer import HuggingFaceTokenizer

        return HuggingFaceTokenizer.load(source)

    def _saved_tokenizer(self, directory: Path) -> Tokenizer:
        """Read the tokenizer saved with an encoder that was trained from scratch."""
        if (directory / IdsOnly.FILE_NAME).is_file():
            return IdsOnly.load(directory)
        if (directory / "tokenizer.json").is_file():
            return self.read_tokenizer(directory)
        return SentencePieceTokenizer.load(directory)

    def changes(self) -> Mapping[str, Any]:
        """Return keys that override those of the published config.json."""
        return {}

    def no_export(self) -> str | None:
        """Say why families whose attention or embedding depends on the length of the text cannot be exported."""
        return NOT_EXPORTED.get(str(self._family()))

    def _family(self) -> str | None:
        """Return the model_type of transformers; None if it is not known without the network."""
        if self.required_type() is not None or self.pretrained is None:
            return self.required_type()
        try:
            return published_config("pretrained", self.pretrained).get("model_type")
        except SettingError:
            return None

    def published_mlm_head(self, heads: Sequence[PublishedHead]) -> dict[str, Tensor]:
        """Load the masked-language head of the pretrained weights, by one of these formats."""
        from x2kit_transformers.loading import load_mlm_head

        if self.pretrained is None:
            raise SettingError(
                "pretrained", "required to load a masked-language head; set it, or mlm_pretrained to false"
            )
        return load_mlm_head(self.pretrained, heads)

    def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
        from x2kit_transformers.loading import empty_encoder, fresh_encoder, pretrained_encoder

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


class HuggingFaceText(TransformersText):
    """Any text encoder that transformers' AutoModel and AutoTokenizer read, defined by its config.json.

    RoBERTa, mBERT, DistilBERT (half the layers of BERT, for little memory), DeBERTa-v3 (relative positions, the
    strongest English encoder of its size), ModernBERT (rotary positions, windows, texts of 8192 tokens),
    multilingual E5 (`summary: mean`, `prefix: "query: "`; sentences aligned across many languages). Set `pretrained`
    for published weights, or `family` to train an architecture from scratch.
    """

    family: str | None = Field(
        None,
        description='without pretrained weights: the architecture, a model_type of transformers, such as "deberta-v2" '
        'or "modernbert"',
    )
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="keys that override those of the published config.json, or from scratch those of the family: "
        "{position_buckets: 64}; sizes have their own settings",
    )
    prefix: str = Field(
        "", description='prefix of each text that a published encoder needs: "query: " for E5'
    )

    def reads_weights_of(self, other: ComponentConfig) -> bool:
        """Whether both are the same encoder and, where both name one, the same family."""
        known = getattr(other, "family", None)
        return super().reads_weights_of(other) and (self.family is None or known in (None, self.family))

    def required_type(self) -> str | None:
        return self.family

    def describe(self) -> TextFacts:
        if self.pretrained is None and self.family is None:
            raise SettingError(
                "pretrained",
                "required: the name of published weights; or set family to train from scratch: bert, roberta, "
                "xlm-roberta, distilbert, deberta-v2, modernbert, ...",
            )
        for size, keys in SIZE_KEYS.items():
            taken = sorted(set(keys) & set(self.config))
            if taken:
                raise SettingError("config", f"{taken[0]} is set by the setting {SETTING_OF[size]}; use that")
        if self.prefix and self.pretrained is None and self.published_tokenizer is None:
            raise SettingError(
                "prefix", "needs a published tokenizer; set published_tokenizer or remove this"
            )
        return super().describe()

    def read_tokenizer(self, source: str | Path) -> Tokenizer:
        from x2kit_transformers.tokenizer import HuggingFaceTokenizer

        return HuggingFaceTokenizer.load(source, self.prefix)

    def changes(self) -> Mapping[str, Any]:
        return self.config

    def from_scratch(self, tokenizer: Tokenizer) -> dict[str, Any]:
        from x2kit_transformers.families import family_settings

        sizes = {
            name: self.size(name)
            for name in ("width", "layers", "heads", "mlp_ratio", "max_length", "dropout")
        }
        return family_settings(str(self.family), sizes, tokenizer, self.config)

    def pretrained_mlm_head(self) -> dict[str, Tensor]:
        return self.published_mlm_head(PUBLISHED)

    def build_decoder(self, tokenizer: Tokenizer, layers: int, assets: Path | None = None) -> TextDecoder:
        """Build a decoder of BERT layers with the encoder's sizes and vocabulary, as X²-VLM does for XLM-R."""
        from x2kit_transformers.decoder import bert_decoder

        if self.pretrained is None:
            sizes = {name: self.size(name) for name in FROM_SCRATCH}
        else:
            config = published_config("pretrained", self.pretrained if assets is None else str(assets))
            sizes = {
                **FROM_SCRATCH,
                **sizes_of(config),
                "max_length": self.max_length or longest_text(config),
            }
        return bert_decoder(sizes, tokenizer, layers)
