"""PreNormCross: CrossBert's layers with each norm before its projection. Imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from x2kit.plugin import Context, FusionEncoder, PackedContext, Past
from x2kit_fusion.cross_bert import CrossBertEncoder, CrossBertLayer

if TYPE_CHECKING:
    from x2kit_fusion.config import PreNormCross


class PreNormEncoder(CrossBertEncoder):
    """CrossBert with a residual stream from the text to one final norm; each part normalises its input."""

    def __init__(self, config: PreNormCross, width: int, context_width: int) -> None:
        super().__init__(config, width, context_width)
        for layer in self.layers:
            _to_pre_norm(layer, config.layer_norm_eps)
        self.norm = nn.LayerNorm(width, config.layer_norm_eps)

    def forward(
        self,
        text: Tensor,
        text_mask: Tensor,
        context: Context | PackedContext | None,
        summary_rows: int = 0,
    ) -> Tensor:
        fused: Tensor = self.norm(super().forward(text, text_mask, context, summary_rows))
        return fused

    def fuse_next(self, text: Tensor, context: Context, past: Past = ()) -> tuple[Tensor, Past]:
        states, kept = super().fuse_next(text, context, past)
        return self.norm(states), kept

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return FusionEncoder.official_names(self, first_layer)


def _to_pre_norm(layer: CrossBertLayer, eps: float) -> None:
    """Move the norms of a layer: none after the residuals, one before each projection of them or of the context."""
    for attention in (layer.self_attention, layer.cross_attention):
        attention.query = _normed(attention.query, eps)
        attention.key_value = _normed(attention.key_value, eps)
        attention.norm = nn.Identity()
    layer.intermediate = _normed(layer.intermediate, eps)
    layer.norm = nn.Identity()


def _normed(linear: nn.Linear, eps: float) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(linear.in_features, eps), linear)
