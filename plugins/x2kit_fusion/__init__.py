"""Fusion encoders: CrossBert, the paper's. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field

from x2kit.plugin import (
    FusionEncoderConfig,
    FusionFacts,
    NameOrPath,
    Registry,
    SettingError,
    Shapes,
    hookimpl,
)
from x2kit.plugin.official import count, usual_heads
from x2kit.plugin.pretrained import chosen_layers, published_config

if TYPE_CHECKING:
    from x2kit_fusion.cross_bert import CrossBertEncoder


class CrossBert(FusionEncoderConfig):
    """The paper's fusion encoder: post-norm BERT layers, each with cross-attention to the context.

    Keys and values are computed once per distinct context and shared by all text rows that look at it.
    """

    pretrained: NameOrPath | None = Field(
        None,
        description="a text encoder built like BERT, its name on the Hugging Face hub or its directory, whose layers "
        "fill everything but the cross-attention; null trains from scratch",
    )
    layers: int = Field(6, ge=1, description="layers, each with cross-attention")
    pretrained_layers: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="numbers, from 0, of the pretrained model's layers that this encoder takes; null: the last "
        "`layers` of them",
    )
    width: int | None = Field(None, gt=0, description="hidden width D; null takes the text encoder's")
    heads: int = Field(12, gt=0, description="attention heads; they divide the width")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the feed-forward layer over D")
    layer_norm_eps: float = Field(1e-12, gt=0, description="epsilon of the layer norms")
    init_std: float = Field(
        0.02,
        gt=0,
        description="spread of initial weights; BERT's 0.02 is for a width of 768, narrow layers want more",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="of hidden states and attention weights")

    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        """Width and depth. Raises SettingError if width and text width differ, or heads do not divide it."""
        if self.width is not None and self.width != text_width:
            raise SettingError(
                "width",
                f"CrossBert continues the text encoder's states, so its width must be {text_width}, "
                f"found {self.width}; leave it null to follow the text encoder",
            )
        if text_width % self.heads:
            raise SettingError("heads", f"{self.heads} heads do not divide the width {text_width}")
        if self.pretrained is None and self.pretrained_layers is not None:
            raise SettingError("pretrained_layers", "there are none from scratch; name pretrained weights")
        if self.pretrained is not None:
            self._layers_of(self.pretrained, text_width)
        return FusionFacts(width=text_width, layers=self.layers)

    def _layers_of(self, pretrained: str, text_width: int) -> tuple[int, ...]:
        """Numbers of the pretrained model's layers. Raises SettingError if its sizes are others than these."""
        config = published_config("pretrained", pretrained)
        width = config.get("hidden_size")
        if width != text_width:
            raise SettingError(
                "pretrained", f"{pretrained} is {width} wide, but the text encoder's width is {text_width}"
            )
        inner = config.get("intermediate_size", 0) / width
        for setting, found in (("heads", config.get("num_attention_heads")), ("mlp_ratio", inner)):
            if getattr(self, setting) != found:
                raise SettingError(setting, f"{getattr(self, setting)}, but {pretrained} has {found}")
        return chosen_layers(
            self.layers, self.pretrained_layers, config["num_hidden_layers"], pretrained, last=True
        )

    @classmethod
    def from_official(cls, shapes: Shapes, heads: int | None = None) -> Self | None:
        query, inner = (
            shapes.get("0.crossattention.self.query.weight"),
            shapes.get("0.intermediate.dense.weight"),
        )
        if not (query and inner):
            return None
        return cls(
            layers=count(shapes, "{n}."), heads=usual_heads(query[0], heads), mlp_ratio=inner[0] / query[0]
        )

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> CrossBertEncoder:
        """The encoder, with BERT's initialisation, or filled by a text encoder's layers as X²-VLM's is."""
        from x2kit_fusion.cross_bert import CrossBertEncoder
        from x2kit_fusion.pretrained_layers import fill

        if assets is not None:
            return CrossBertEncoder(self, text_width, context_width)
        encoder = CrossBertEncoder(self, self.describe(text_width, context_width).width, context_width)
        if self.pretrained is not None:
            fill(encoder, self.pretrained, self._layers_of(self.pretrained, text_width))
        return encoder


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Add the fusion encoders of this plugin."""
    registry.add(CrossBert)
