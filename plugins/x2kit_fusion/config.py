"""Settings of the fusion encoders. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import Field

from x2kit.plugin import (
    ComponentConfig,
    FusionEncoderConfig,
    FusionFacts,
    NameOrPath,
    SettingError,
    Shapes,
    WidthError,
)
from x2kit.plugin.toolkit import chosen_layers, count, published_config, usual_heads

if TYPE_CHECKING:
    from x2kit_fusion.cross_bert import CrossBertEncoder
    from x2kit_fusion.doubled import DoubledEncoder
    from x2kit_fusion.light import LightEncoder
    from x2kit_fusion.pre_norm import PreNormEncoder


class CrossLayers(FusionEncoderConfig):
    """Layers of self-attention, cross-attention to the context, and a feed-forward part."""

    layers: int = Field(6, ge=1, description="layers, each with cross-attention")
    width: int | None = Field(None, gt=0, description="hidden width D; null takes the text encoder's")
    heads: int = Field(12, gt=0, description="attention heads; the width must be a multiple")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the feed-forward layer over D")
    layer_norm_eps: float = Field(1e-12, gt=0, description="epsilon of the layer norms")
    init_std: float = Field(
        0.02,
        gt=0,
        description="standard deviation of initial weights; BERT's 0.02 is for width 768, narrow layers need more",
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of hidden states and attention weights")

    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        """Return width and depth. Raises SettingError if width and text width differ, or heads do not divide it."""
        if self.width is not None and self.width != text_width:
            raise SettingError(
                "width",
                f"{self.component_name()} takes the text encoder's hidden states, so its width must be {text_width}, "
                f"found {self.width}; set null to use the text encoder's",
            )
        if text_width % self.heads:
            message = f"{self.heads} heads do not divide the width {text_width}"
            raise WidthError("heads", message, encoder="text")
        return FusionFacts(width=text_width, layers=self.layers)


class CrossBert(CrossLayers):
    """The paper's fusion encoder: post-norm BERT layers, each with cross-attention to the context.

    Use it to continue an official checkpoint or to start from the layers of a published BERT; from scratch it needs
    warm-up. Keys and values are computed once per distinct context and shared by all text rows that attend to it.
    """

    pretrained: NameOrPath | None = Field(
        None,
        description="a text encoder with BERT's layers, by its name on the Hugging Face hub or its directory; they "
        "initialise everything but the cross-attention; null trains from scratch",
    )
    pretrained_layers: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        description="numbers, from 0, of the pretrained model's layers to use; null for the last `layers` of them",
    )

    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        facts = super().describe(text_width, context_width)
        if self.pretrained is None and self.pretrained_layers is not None:
            raise SettingError("pretrained_layers", "needs pretrained weights; set pretrained or remove this")
        if self.pretrained is not None:
            self._layers_of(self.pretrained, text_width)
        return facts

    def _layers_of(self, pretrained: str, text_width: int) -> tuple[int, ...]:
        """Return the numbers of the pretrained layers to use. Raises SettingError if their sizes differ from these."""
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
        sizes = _sizes_of(shapes, heads)
        return None if sizes is None or _is_doubled(shapes) else cls(**sizes)

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> CrossBertEncoder:
        """Build the encoder with BERT's initialisation, or from a text encoder's layers as in X²-VLM."""
        from x2kit_fusion.cross_bert import CrossBertEncoder
        from x2kit_fusion.loading import load_bert_layers

        if assets is not None:
            return CrossBertEncoder(self, text_width, context_width)
        encoder = CrossBertEncoder(self, self.describe(text_width, context_width).width, context_width)
        if self.pretrained is not None:
            load_bert_layers(encoder, self.pretrained, self._layers_of(self.pretrained, text_width))
        return encoder


class DoubledCross(CrossLayers):
    """The first-generation encoder for image pairs: each layer of CrossBert becomes two neighbours (X-VLM, NLVR2).

    The first of a pair attends to a row's first image, the second to its second; both share the key and value
    projections of the cross-attention. `init_from` a model with CrossBert copies each of its layers to both. A row
    with one image attends to it in all layers.
    """

    images: ClassVar[int] = 2

    layers: int = Field(
        6, ge=1, description="layers before doubling, as in the CrossBert that it starts from"
    )

    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        return super().describe(text_width, context_width)._replace(layers=2 * self.layers)

    def reads_weights_of(self, other: ComponentConfig) -> bool:
        return isinstance(other, CrossBert | DoubledCross)

    def in_place_of(self, other: ComponentConfig) -> Self:
        """Return the settings with those sizes of a CrossBert that are not set here."""
        if not isinstance(other, CrossBert):
            return self
        sizes = other.model_dump(include=other.model_fields_set & CrossLayers.model_fields.keys())
        return self.model_validate({**sizes, **self.model_dump(exclude_unset=True)})

    @classmethod
    def from_official(cls, shapes: Shapes, heads: int | None = None) -> Self | None:
        sizes = _sizes_of(shapes, heads)
        if sizes is None or not _is_doubled(shapes):
            return None
        return cls(**{**sizes, "layers": sizes["layers"] // 2})

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> DoubledEncoder:
        from x2kit_fusion.doubled import DoubledEncoder

        return DoubledEncoder(self, self.describe(text_width, context_width).width, context_width)


def _sizes_of(shapes: Shapes, heads: int | None) -> dict[str, Any] | None:
    """Return the sizes of BERT layers with cross-attention; None for other layers."""
    query, inner = shapes.get("0.crossattention.self.query.weight"), shapes.get("0.intermediate.dense.weight")
    if not (query and inner):
        return None
    return {
        "layers": count(shapes, "{n}."),
        "heads": usual_heads(query[0], heads),
        "mlp_ratio": inner[0] / query[0],
    }


def _is_doubled(shapes: Shapes) -> bool:
    """Whether the second layer shares keys and values with the first; see `FusionEncoderConfig.from_official`."""
    second = "1.crossattention.self."
    return f"{second}query.weight" in shapes and f"{second}key.weight" not in shapes


class PreNormCross(CrossLayers):
    """Pre-norm layers with cross-attention: each part normalises its input, the residual stream is not normalised.

    Suited to training from scratch: gradients have the same scale in every layer, which allows higher learning rates,
    more layers and half precision without a long warm-up (arXiv:2002.04745). The context is normalised too, so the
    vision encoder's scale has no effect. No published weights fit. Keys and values are computed once per distinct
    context, as in CrossBert.
    """

    layer_norm_eps: float = Field(1e-6, gt=0, description="epsilon of the layer norms")

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> PreNormEncoder:
        from x2kit_fusion.pre_norm import PreNormEncoder

        return PreNormEncoder(self, self.describe(text_width, context_width).width, context_width)


class LightCross(CrossLayers):
    """A light fusion encoder: a few passes through layers that share weights (arXiv:1909.11942).

    Saves memory and re-ranking time: by default one layer is applied three times, with a sixth of CrossBert's
    weights. Keys and values of a context are computed once for all passes, which makes large image sets cheap to rank.
    It learns less from the same steps; more passes cost time but no weights.
    """

    layers: int = Field(3, ge=1, description="passes, each with cross-attention")
    distinct: int = Field(1, ge=1, description="distinct layers, applied in turn")

    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        if self.distinct > self.layers:
            raise SettingError(
                "distinct",
                f"{self.distinct} distinct layers, but only {self.layers} passes; raise layers or lower this",
            )
        return super().describe(text_width, context_width)

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> LightEncoder:
        from x2kit_fusion.light import LightEncoder

        return LightEncoder(self, self.describe(text_width, context_width).width, context_width)
