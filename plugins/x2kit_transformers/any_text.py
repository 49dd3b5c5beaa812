"""Any text encoder of transformers. Imports neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from x2kit.plugin import SettingError, TextFacts, Tokenizer
from x2kit.plugin.components import ComponentConfig
from x2kit_transformers.architecture import Architecture
from x2kit_transformers.heads import PUBLISHED
from x2kit_transformers.published import KEYS

if TYPE_CHECKING:
    from torch import Tensor

SETTING_OF = {
    "width": "width",
    "layers": "layers",
    "heads": "heads",
    "inner": "mlp_ratio",
    "positions": "max_length",
}


class HuggingFaceText(Architecture):
    """Any text encoder that transformers' AutoModel and AutoTokenizer read: its configuration decides what it is.

    RoBERTa, mBERT, DistilBERT (half the layers of BERT, for little memory), DeBERTa-v3 (relative positions, the
    strongest English encoder of its size), ModernBERT (rotary positions, windows, texts of 8192 tokens),
    multilingual E5 (`summary: mean`, `prefix: "query: "`; sentences of many languages side by side from the start).
    Published weights by `pretrained`, or with `family` an architecture that is trained from scratch.
    """

    family: str | None = Field(
        None,
        description='without pretrained weights: the architecture, a model_type of transformers, such as "deberta-v2" '
        'or "modernbert"',
    )
    config: dict[str, Any] = Field(
        default_factory=dict,
        description="keys of the model's config.json that shall be other than published, or from scratch other than "
        "the family's own: {position_buckets: 64}; sizes have settings of their own",
    )
    prefix: str = Field(
        "", description='what a published encoder wants in front of each text: "query: " for E5'
    )

    def reads_weights_of(self, other: ComponentConfig) -> bool:
        """Whether it is the same encoder and the same family, where both say which."""
        known = getattr(other, "family", None)
        return super().reads_weights_of(other) and (self.family is None or known in (None, self.family))

    def family_read(self) -> str | None:
        return self.family

    def describe(self) -> TextFacts:
        if self.pretrained is None and self.family is None:
            raise SettingError(
                "pretrained",
                "missing: name published weights, or with family an architecture to train from scratch: bert, "
                "roberta, xlm-roberta, distilbert, deberta-v2, modernbert, ...",
            )
        for size, keys in KEYS.items():
            taken = sorted(set(keys) & set(self.config))
            if taken:
                raise SettingError(
                    "config", f"{taken[0]} has a setting of its own, {SETTING_OF[size]}; write that"
                )
        if self.prefix and self.pretrained is None and self.published_tokenizer is None:
            raise SettingError(
                "prefix", "a tokenizer that is trained on the run's texts knows of none; name a published one"
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
        from x2kit_transformers.published_head import masked_language_head

        if self.pretrained is None:
            raise SettingError(
                "pretrained",
                "from scratch there is no masked-language head to begin with; set mlm_pretrained to false",
            )
        return masked_language_head(self.pretrained, PUBLISHED)
