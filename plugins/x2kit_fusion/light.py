"""LightCross: apply a few of CrossBert's layers several times. Imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from x2kit.plugin import Context, FusionEncoder, PackedContext
from x2kit_fusion.cross_bert import CrossBertEncoder

if TYPE_CHECKING:
    from x2kit_fusion.config import LightCross


class Passes(nn.ModuleList):
    """A list of passes that applies a few layers in turn; weights are registered once per layer."""

    def __init__(self, layers: nn.ModuleList, passes: int) -> None:
        super().__init__()
        self._passes = passes
        for number, layer in enumerate(layers):
            self.add_module(str(number), layer)

    def _sequence(self) -> list[nn.Module]:
        layers = list(self._modules.values())
        return [layers[number % len(layers)] for number in range(self._passes)]

    def __len__(self) -> int:
        return self._passes

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._sequence())

    def __getitem__(self, number: Any) -> Any:
        return self._sequence()[number]


class LightEncoder(CrossBertEncoder):
    """CrossBert with shared layers; keys and values of a context are computed once for all passes."""

    def __init__(self, config: LightCross, width: int, context_width: int) -> None:
        super().__init__(config.model_copy(update={"layers": config.distinct}), width, context_width)
        self.layers = Passes(self.layers, config.layers)
        self.attention_layers = config.layers

    def prepare(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Project keys and values for each pass; passes of one layer share a tensor."""
        projected = {layer: layer.cross_attention.key_value(tokens) for layer in dict.fromkeys(self.layers)}
        return tuple(projected[layer] for layer in self.layers)

    def forward(
        self,
        text: Tensor,
        text_mask: Tensor,
        context: Context | PackedContext | None,
        summary_rows: int = 0,
    ) -> Tensor:
        if context is not None and not context.prepared:
            context = context._replace(prepared=self.prepare(context.tokens))
        return super().forward(text, text_mask, context, summary_rows)

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return FusionEncoder.official_names(self, first_layer)
