"""CrossBert's layers with every norm in front of what it is for. Imports torch."""

from __future__ import annotations

from torch import Tensor, nn

from x2kit.plugin import Context, FusionEncoder
from x2kit_fusion.cross_bert import CrossBertEncoder, CrossBertLayer
from x2kit_fusion.settings import PreNormCross


class PreNormEncoder(CrossBertEncoder):
    """Residuals add up from the text to one last norm; each part reads them through norms of its own."""

    def __init__(self, config: PreNormCross, width: int, context_width: int) -> None:
        super().__init__(config, width, context_width)
        for layer in self.layers:
            _norms_in_front(layer, config.layer_norm_eps)
        self.norm = nn.LayerNorm(width, config.layer_norm_eps)

    def forward(
        self, text: Tensor, text_mask: Tensor, context: Context | None, summary_rows: int = 0
    ) -> Tensor:
        fused: Tensor = self.norm(super().forward(text, text_mask, context, summary_rows))
        return fused

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return FusionEncoder.official_names(self, first_layer)


def _norms_in_front(layer: CrossBertLayer, eps: float) -> None:
    """Nothing behind the residuals; a norm before each linear map that reads them, or the context."""
    for attention in (layer.self_attention, layer.cross_attention):
        attention.query = _after_norm(attention.query, eps)
        attention.key_value = _after_norm(attention.key_value, eps)
        attention.norm = nn.Identity()
    layer.intermediate = _after_norm(layer.intermediate, eps)
    layer.norm = nn.Identity()


def _after_norm(linear: nn.Linear, eps: float) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(linear.in_features, eps), linear)
