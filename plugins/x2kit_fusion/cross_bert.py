"""BERT layers with cross-attention whose keys and values are shared by all rows of one context. Imports torch.

R text rows, L text tokens, M distinct contexts, N context tokens, D width, Dc context width, H heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from x2kit.plugin import Context, FusionEncoder, NameTable, gather_rows
from x2kit_fusion import CrossBert


def _attention(own: str, official: str) -> list[tuple[str, str]]:
    own, official = f"layers.{{layer}}.{own}", f"{{layer+first}}.{official}"
    return [
        (f"{own}.query.{{leaf}}", f"{official}.self.query.{{leaf}}"),
        (f"{own}.key_value.{{leaf}}", f"{official}.self.key.{{leaf}} + {official}.self.value.{{leaf}}"),
        (f"{own}.output.{{leaf}}", f"{official}.output.dense.{{leaf}}"),
        (f"{own}.norm.{{leaf}}", f"{official}.output.LayerNorm.{{leaf}}"),
    ]


OFFICIAL_LINES = [
    *_attention("self_attention", "attention"),
    *_attention("cross_attention", "crossattention"),
    ("layers.{layer}.intermediate.{leaf}", "{layer+first}.intermediate.dense.{leaf}"),
    ("layers.{layer}.output.{leaf}", "{layer+first}.output.dense.{leaf}"),
    ("layers.{layer}.norm.{leaf}", "{layer+first}.output.LayerNorm.{leaf}"),
]


class SharedKeys(NamedTuple):
    """Keys and values of one layer: of distinct contexts [M, N, 2D], of the rows' own leads [R, 1, 2D] or None."""

    tokens: Tensor
    lead: Tensor | None


class Attention(nn.Module):
    """Multi-head attention with the projections apart, so that keys and values may be computed elsewhere."""

    def __init__(self, width: int, source_width: int, heads: int, dropout: float, eps: float) -> None:
        super().__init__()
        self.width = width
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(source_width, 2 * width)
        self.output = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps)

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """x [R, L, D], key and value [R, H, N, D/H] of H heads, mask [R, N] or [R, L, N] bool or None.

        Returns: [R, L, D], residual and norm included.
        """
        if mask is not None:
            mask = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
        attended = F.scaled_dot_product_attention(
            self._by_head(self.query(x)),
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        attended = attended.transpose(1, 2).flatten(2)
        return self.norm(x + F.dropout(self.output(attended), self.dropout, self.training))

    def apart(self, keys_and_values: Tensor) -> tuple[Tensor, Tensor]:
        """What `key_value` gives, [R, N, 2D], as keys and values by head, each [R, H, N, D/H]."""
        key, value = keys_and_values.split(self.width, -1)
        return self._by_head(key), self._by_head(value)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class CrossBertLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward; each with its residual and a layer norm behind it."""

    def __init__(self, config: CrossBert, width: int, context_width: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        inner = round(width * config.mlp_ratio)
        self.self_attention = Attention(width, width, config.heads, config.dropout, config.layer_norm_eps)
        self.cross_attention = Attention(
            width, context_width, config.heads, config.dropout, config.layer_norm_eps
        )
        self.intermediate = nn.Linear(width, inner)
        self.output = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width, config.layer_norm_eps)

    def share(self, context: Context, prepared: Tensor | None) -> SharedKeys:
        """Keys and values, once per distinct context; those of the tokens may be `prepared` already."""
        project = self.cross_attention.key_value
        tokens = project(context.tokens) if prepared is None else prepared
        return SharedKeys(tokens, None if context.lead is None else project(context.lead))

    def forward(
        self,
        x: Tensor,
        x_mask: Tensor,
        shared: SharedKeys | None,
        context: Context | None,
        rows: slice,
        read: int,
    ) -> Tensor:
        """One layer on the text rows `rows`, computed for their first `read` positions only: [R', read, D]."""
        states = x[rows]
        key, value = self.self_attention.apart(self.self_attention.key_value(states))
        mask = x_mask[rows] if x_mask.ndim == 2 else x_mask[rows, :read]
        states = self.self_attention(states[:, :read], key, value, mask)
        if shared is not None and context is not None:
            states = self._look(states, shared, context, rows)
        inner = F.dropout(self.output(F.gelu(self.intermediate(states))), self.dropout, self.training)
        return self.norm(states + inner)

    def _look(self, states: Tensor, shared: SharedKeys, context: Context, rows: slice) -> Tensor:
        """Cross-attention of the states [R', L', D] of the text rows `rows`."""
        tokens = self.cross_attention.apart(shared.tokens)
        if len(shared.tokens) == 1 and context.mask is None and shared.lead is None:
            # All rows see the same: their tokens stand in one long row, and the keys need no copy for each.
            together = self.cross_attention(states.flatten(0, 1)[None], *tokens, None)
            return together.view_as(states)  # type: ignore[no-any-return]
        visible = None if context.mask is None else context.mask[rows]
        leads: tuple[Tensor, Tensor] | tuple[None, None] = (None, None)
        if shared.lead is not None:
            leads = self.cross_attention.apart(shared.lead[rows])
            visible = None if visible is None else F.pad(visible, (1, 0), value=True)
        # Keys and values apart: gathered as one they would be joined again on the way back, a copy of all of them.
        # By head: attention with dropout has no fused kernel on a CPU, and would copy what does not lie so.
        key, value = (
            gather_rows(token, context.rows[rows], lead) for token, lead in zip(tokens, leads, strict=True)
        )
        return self.cross_attention(states, key, value, visible)  # type: ignore[no-any-return]


class CrossBertEncoder(FusionEncoder):
    """The paper's fusion encoder (X²-VLM, section 3.1): the last layers of BERT, looking at the context."""

    def __init__(self, config: CrossBert, width: int, context_width: int) -> None:
        super().__init__()
        self.width = width
        self.filled: frozenset[str] = frozenset()
        """Names of own tensors that pretrained weights filled."""
        self.layers = nn.ModuleList(
            CrossBertLayer(config, width, context_width) for _ in range(config.layers)
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=config.init_std)
                nn.init.zeros_(module.bias)

    def fresh(self) -> set[str]:
        return super().fresh() - self.filled

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return NameTable(OFFICIAL_LINES, first=first_layer).of(self.state_dict())

    def prepare(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Keys and values of each layer, [M, N, 2D]."""
        return tuple(layer.cross_attention.key_value(tokens) for layer in self.layers)

    def forward(
        self, text: Tensor, text_mask: Tensor, context: Context | None, summary_rows: int = 0
    ) -> Tensor:
        """[R, L, D] to [R, L, D]; of the first `summary_rows` rows only position 0 is computed in the last layer."""
        length = text.shape[1]
        everything = slice(0, len(text))
        prepared = context.prepared if context is not None and context.prepared else [None] * len(self.layers)
        for layer, keys in zip(self.layers[:-1], prepared[:-1], strict=True):
            shared = None if context is None else layer.share(context, keys)
            text = layer(text, text_mask, shared, context, everything, length)
        last = self.layers[-1]
        shared = None if context is None else last.share(context, prepared[-1])
        if not summary_rows:
            return last(text, text_mask, shared, context, everything, length)  # type: ignore[no-any-return]
        summaries = last(text, text_mask, shared, context, slice(0, summary_rows), 1)
        summaries = F.pad(summaries, (0, 0, 0, length - 1))
        if summary_rows == len(text):
            return summaries
        full = last(text, text_mask, shared, context, slice(summary_rows, len(text)), length)
        return torch.cat([summaries, full])
