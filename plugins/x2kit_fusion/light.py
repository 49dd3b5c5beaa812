"""CrossBert's layers, few of them, passed several times. Imports torch.

M distinct contexts, N context tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from x2kit.plugin import Context, FusionEncoder
from x2kit_fusion.cross_bert import CrossBertEncoder
from x2kit_fusion.settings import LightCross


class Passes(nn.ModuleList):
    """A few layers in turn, as a list as long as there are passes; each layer's weights are there once."""

    def __init__(self, layers: nn.ModuleList, passes: int) -> None:
        super().__init__()
        self._passes = passes
        for number, layer in enumerate(layers):
            self.add_module(str(number), layer)

    def _in_turn(self) -> list[nn.Module]:
        layers = list(self._modules.values())
        return [layers[number % len(layers)] for number in range(self._passes)]

    def __len__(self) -> int:
        return self._passes

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._in_turn())

    def __getitem__(self, number: Any) -> Any:
        return self._in_turn()[number]


class LightEncoder(CrossBertEncoder):
    """Post-norm layers whose keys and values of a context serve all passes."""

    def __init__(self, config: LightCross, width: int, context_width: int) -> None:
        super().__init__(config.model_copy(update={"layers": config.distinct}), width, context_width)
        self.layers = Passes(self.layers, config.layers)

    def prepare(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Keys and values for each pass, those of one layer the same tensor."""
        made = {layer: layer.cross_attention.key_value(tokens) for layer in dict.fromkeys(self.layers)}
        return tuple(made[layer] for layer in self.layers)

    def forward(
        self, text: Tensor, text_mask: Tensor, context: Context | None, summary_rows: int = 0
    ) -> Tensor:
        if context is not None and not context.prepared:
            context = context._replace(prepared=self.prepare(context.tokens))
        return super().forward(text, text_mask, context, summary_rows)

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return FusionEncoder.official_names(self, first_layer)
