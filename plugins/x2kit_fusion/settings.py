"""Settings of the fusion encoders. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field

from x2kit.plugin import FusionEncoderConfig, FusionFacts, NameOrPath, SettingError, Shapes, WidthError
from x2kit.plugin.toolkit.official_keys import count, usual_heads
from x2kit.plugin.toolkit.pretrained import chosen_layers, published_config

if TYPE_CHECKING:
    from x2kit_fusion.cross_bert import CrossBertEncoder
    from x2kit_fusion.light import LightEncoder
    from x2kit_fusion.pre_norm import PreNormEncoder


class CrossLayers(FusionEncoderConfig):
    """Layers of self-attention, cross-attention to the context, and a feed-forward part."""

    layers: int = Field(6, ge=1, description="layers, each with cross-attention")
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
                f"{self.component_name()} continues the text encoder's states, so its width must be {text_width}, "
                f"found {self.width}; leave it null to follow the text encoder",
            )
        if text_width % self.heads:
            message = f"{self.heads} heads do not divide the width {text_width}"
            raise WidthError("heads", message, encoder="text")
        return FusionFacts(width=text_width, layers=self.layers)


class CrossBert(CrossLayers):
    """The paper's fusion encoder: post-norm BERT layers, each with cross-attention to the context.

    The choice wherever an official checkpoint is continued, or the layers begin as those of a published BERT; from
    scratch it needs a warm-up. Keys and values are computed once per distinct context and shared by all text rows
    that look at it.
    """

    pretrained: NameOrPath | None = Field(
        None,
        description="a text encoder built like BERT, its name on the Hugging Face hub or its directory, whose layers "
        "fill everything but the cross-attention; null trains from scratch",
    )
    pretrained_layers: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="numbers, from 0, of the pretrained model's layers that this encoder takes; null: the last "
        "`layers` of them",
    )

    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        facts = super().describe(text_width, context_width)
        if self.pretrained is None and self.pretrained_layers is not None:
            raise SettingError("pretrained_layers", "there are none from scratch; name pretrained weights")
        if self.pretrained is not None:
            self._layers_of(self.pretrained, text_width)
        return facts

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


class PreNormCross(CrossLayers):
    """Pre-norm layers with cross-attention: what goes into each part is normalised, and what adds up is not.

    Good for training from scratch: gradients reach every layer alike, so that it bears higher learning rates, more
    layers and half precision without a long warm-up (arXiv:2002.04745). The context is normalised too, whatever the
    vision encoder's scale. It begins from no published weights. Keys and values are computed once per distinct
    context, as in CrossBert.
    """

    layer_norm_eps: float = Field(1e-6, gt=0, description="epsilon of the layer norms")

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> PreNormEncoder:
        from x2kit_fusion.pre_norm import PreNormEncoder

        return PreNormEncoder(self, self.describe(text_width, context_width).width, context_width)


class LightCross(CrossLayers):
    """A light fusion encoder: few passes through layers that share their weights (arXiv:1909.11942).

    Good where memory or the time of re-ranking decides: of CrossBert's six layers it has one, passed three times, so
    a sixth of the weights; keys and values of a context are computed once for all passes, which makes large sets of
    images cheap to rank. It learns less from the same steps; more passes cost time and no weights.
    """

    layers: int = Field(3, ge=1, description="passes, each with cross-attention")
    distinct: int = Field(1, ge=1, description="layers with weights of their own, passed in turn")

    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        if self.distinct > self.layers:
            raise SettingError(
                "distinct",
                f"{self.distinct} layers, but only {self.layers} passes; raise layers, or lower this",
            )
        return super().describe(text_width, context_width)

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> LightEncoder:
        from x2kit_fusion.light import LightEncoder

        return LightEncoder(self, self.describe(text_width, context_width).width, context_width)
