"""DoubledCross: CrossBert for image pairs, each layer doubled. Imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from x2kit.plugin import Context, PackedContext
from x2kit_fusion.cross_bert import AnyContext, CrossBertEncoder

if TYPE_CHECKING:
    from x2kit_fusion.config import DoubledCross


class DoubledEncoder(CrossBertEncoder):
    """Two layers for each of CrossBert's: the first attends to the first image of a row, the second to the second.

    Both project keys and values with the same weights, so those of an image serve both places (X-VLM,
    models/model_nlvr.py, share_cross_attention).
    """

    def __init__(self, config: DoubledCross, width: int, context_width: int) -> None:
        super().__init__(config.model_copy(update={"layers": 2 * config.layers}), width, context_width)
        for first, second in zip(self.layers[::2], self.layers[1::2], strict=True):
            second.cross_attention.key_value = first.cross_attention.key_value

    def seen_by(self, layer: int, context: AnyContext) -> AnyContext:
        return context.select(layer % 2)

    def prepare(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Project keys and values for each layer; both layers of a pair share a tensor."""
        projected = (layer.cross_attention.key_value(tokens) for layer in self.layers[::2])
        return tuple(keys for keys in projected for _ in range(2))

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

    def fit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copy each layer of a CrossBert to both layers of its pair; tensors of a doubled encoder are not changed."""
        layers = {int(name.split(".")[1]) for name in state}
        if len(layers) != len(self.layers) // 2:
            return state
        doubled: dict[str, Tensor] = {}
        for name, value in state.items():
            head, number, rest = name.split(".", 2)
            doubled |= {f"{head}.{2 * int(number) + place}.{rest}": value for place in range(2)}
        return doubled
