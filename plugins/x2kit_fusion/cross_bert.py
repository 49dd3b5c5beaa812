"""CrossBert: BERT layers with cross-attention; rows of one context share keys and values. Imports torch.

R text rows, L text tokens, M distinct contexts, N context tokens, D width, Dc context width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from x2kit.plugin import (
    Context,
    FusionEncoder,
    GroupedTokens,
    NameTable,
    PackedContext,
    Past,
    TokenGroup,
    causal_mask,
    gather_rows,
)

if TYPE_CHECKING:
    from x2kit_fusion.config import CrossLayers

AnyContext = TypeVar("AnyContext", Context, PackedContext)


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
    """Keys and values of one layer: of distinct contexts [M, N, 2D] and of each row's lead [R, 1, 2D] or None."""

    tokens: Tensor
    lead: Tensor | None


class Attention(nn.Module):
    """Multi-head attention that takes projected keys and values, so that rows can share them."""

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
        """Attend from x [R, L, D] to key and value [R, H, N, D/H]; mask [R, N] or [R, L, N] bool, or None.

        Returns: [R, L, D], residual and norm included.
        """
        if mask is not None:
            mask = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
        return self._add(x, self._attend(self.query(x), key, value, mask))

    def attend_grouped(
        self, x: Tensor, keys: Sequence[tuple[Tensor, Tensor]], tokens: GroupedTokens
    ) -> Tensor:
        """Attend from tokens x [P, D] to key and value [G, H, N, D/H] of each group; else as `forward`."""
        attended = [
            self._attend(query, *shared, None if group.mask is None else group.mask[:, None])
            for query, shared, group in zip(tokens.spread(self.query(x)), keys, tokens.groups, strict=True)
        ]
        return self._add(x, tokens.collect(attended))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from projected queries [R, L, D]; mask [R, 1, L or 1, N]. Returns: [R, L, D]."""
        attended = F.scaled_dot_product_attention(
            self._by_head(query),
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return attended.transpose(1, 2).flatten(2)

    def forward_with_probabilities(
        self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute the same, step by step, and return the probabilities [R, H, L, N] too; mask [R, N]."""
        scores = self._by_head(self.query(x)) @ key.transpose(2, 3) / math.sqrt(key.shape[-1])
        probabilities = scores.masked_fill(~mask[:, None, None], float("-inf")).softmax(-1)
        attended = F.dropout(probabilities, self.dropout, self.training) @ value
        return self._add(x, attended.transpose(1, 2).flatten(2)), probabilities

    def _add(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add what was attended to x, both [..., D]."""
        attended = self.output(attended)
        return self.norm(x + F.dropout(attended, self.dropout, self.training))  # type: ignore[no-any-return]

    def split_heads(self, keys_and_values: Tensor) -> tuple[Tensor, Tensor]:
        """Split the output of `key_value`, [R, N, 2D], into keys and values by head, each [R, H, N, D/H]."""
        key, value = keys_and_values.split(self.width, -1)
        return self._by_head(key), self._by_head(value)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class CrossBertLayer(nn.Module):
    """Self-attention, cross-attention and feed-forward, each followed by residual and layer norm."""

    def __init__(self, config: CrossLayers, width: int, context_width: int) -> None:
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

    def share(self, context: Context | PackedContext, prepared: Tensor | None) -> SharedKeys:
        """Project keys and values once per distinct context, unless those of the tokens are `prepared`."""
        project = self.cross_attention.key_value
        tokens = project(context.tokens) if prepared is None else prepared
        return SharedKeys(tokens, None if context.lead is None else project(context.lead))

    def forward(
        self,
        x: Tensor,
        x_mask: Tensor,
        shared: SharedKeys | None,
        context: Context | PackedContext | None,
        rows: slice,
        read: int,
    ) -> Tensor:
        """Apply the layer to the text rows `rows`, for their first `read` positions only: [R', read, D].

        Packed texts are computed for the tokens that their context reads: [R, W, D], or [T, D].
        """
        if isinstance(context, PackedContext):
            assert shared is not None
            return self._fuse_packed(x, x_mask, shared, context)
        states = x[rows]
        key, value = self.self_attention.split_heads(self.self_attention.key_value(states))
        mask = x_mask[rows] if x_mask.ndim == 2 else x_mask[rows, :read]
        states = self.self_attention(states[:, :read], key, value, mask)
        if shared is not None and context is not None:
            states = self._cross_attend(states, shared, context, rows)
        return self._feed_forward(states)

    def _fuse_packed(self, x: Tensor, x_mask: Tensor, shared: SharedKeys, context: PackedContext) -> Tensor:
        attention, read = self.self_attention, context.read
        keys = attention.split_heads(attention.key_value(x))
        if read is None:
            states, (tokens,) = attention(x, *keys, x_mask).flatten(0, 1), context.images
        else:
            of_texts, (tokens,) = x.flatten(0, 1).index_select(0, read.token), read.images
            states = attention.attend_grouped(of_texts, [keys], read.own)
        of_groups = [self._keys_of(group, shared) for group in tokens.groups]
        states = self._feed_forward(self.cross_attention.attend_grouped(states, of_groups, tokens))
        return states.view_as(x) if read is None else states

    def _keys_of(self, group: TokenGroup, shared: SharedKeys) -> tuple[Tensor, Tensor]:
        """Return keys and values [G, H, K + N, D/H] of groups of tokens; copied only where they must be."""
        split = self.cross_attention.split_heads
        leads: tuple[Tensor, Tensor] | tuple[None, None] = (None, None)
        if shared.lead is not None and group.leads is not None:
            found = shared.lead.flatten(0, 1).index_select(0, group.leads.flatten())
            leads = split(found.view(*group.leads.shape, found.shape[-1]))
        key, value = (
            _joined(part, group.rows, lead) for part, lead in zip(split(shared.tokens), leads, strict=True)
        )
        return key, value

    def read_next(self, states: Tensor, keys: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply the layer to the next tokens of texts read from left to right.

        Args:
            states: [R, K, D]; rows of one context are adjacent, equally many for each.
            keys: [M, N, 2D], keys and values of the contexts.
            before: [R, L, 2D], keys and values of the tokens before.
        Returns: states [R, K, D], and keys and values [R, L + K, 2D] of all tokens.
        """
        own = self.self_attention.key_value(states)
        if before is not None:
            own = torch.cat([before, own], 1)
        mask = causal_mask(states.shape[1], own.shape[1], states.device)
        states = self.self_attention(states, *self.self_attention.split_heads(own), mask)
        # As queries of one long row for each context, rows need no copies of its keys.
        joined = states.reshape(len(keys), -1, states.shape[2])
        joined = self.cross_attention(joined, *self.cross_attention.split_heads(keys), None)
        return self._feed_forward(joined.view_as(states)), own

    def _feed_forward(self, states: Tensor) -> Tensor:
        inner = F.dropout(self.output(F.gelu(self.intermediate(states))), self.dropout, self.training)
        return self.norm(states + inner)  # type: ignore[no-any-return]

    def _cross_attend(self, states: Tensor, shared: SharedKeys, context: Context, rows: slice) -> Tensor:
        """Attend from the hidden states [R', L', D] of the text rows `rows` to their contexts."""
        tokens = self.cross_attention.split_heads(shared.tokens)
        if shared.tokens.shape[0] == 1 and context.mask is None and shared.lead is None:
            # All rows attend to the same tokens: flattened to one long row, they need no copies of the keys.
            joined = self.cross_attention(states.flatten(0, 1)[None], *tokens, None)
            return joined.view_as(states)  # type: ignore[no-any-return]
        visible = None if context.mask is None else context.mask[rows]
        leads: tuple[Tensor, Tensor] | tuple[None, None] = (None, None)
        if shared.lead is not None:
            leads = self.cross_attention.split_heads(shared.lead[rows])
            visible = None if visible is None else F.pad(visible, (1, 0), value=True)
        # Gathered separately: in one tensor, backward would concatenate the gradients of all keys and values.
        # Gathered by head: attention with dropout has no fused CPU kernel and would copy other layouts.
        key, value = (
            gather_rows(token, context.rows[rows], lead) for token, lead in zip(tokens, leads, strict=True)
        )
        return self.cross_attention(states, key, value, visible)  # type: ignore[no-any-return]


def _joined(tokens: Tensor, rows: Tensor | None, lead: Tensor | None) -> Tensor:
    """Put leads [G, H, K, D/H] before the tokens of rows, [M, H, N, D/H]; see `TokenGroup.rows`."""
    if rows is not None:
        return gather_rows(tokens, rows, lead)
    return tokens if lead is None else torch.cat([lead, tokens], 2)


class CrossBertEncoder(FusionEncoder):
    """The paper's fusion encoder (X²-VLM, section 3.1): the last layers of BERT with cross-attention."""

    packs = True

    def __init__(self, config: CrossLayers, width: int, context_width: int) -> None:
        super().__init__()
        self.width = width
        self.attention_layers = config.layers
        self.filled: frozenset[str] = frozenset()
        """Names of tensors loaded from pretrained weights."""
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

    def shard_units(self) -> list[nn.Module]:
        """Return the projections of contexts, which `prepare` and `share` call, and the layers around them.

        Without the last layer: how often `forward` calls it depends on the rows, which differ between ranks.
        """
        layers = [layer for layer in dict.fromkeys(self.layers) if layer is not self.layers[-1]]
        return [*(layer.cross_attention.key_value for layer in layers), *layers]

    def seen_by(self, layer: int, context: AnyContext) -> AnyContext:
        """Return the context that a layer attends to; all attend to the same here."""
        return context

    def prepare(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Project keys and values of each layer, [M, N, 2D]."""
        return tuple(layer.cross_attention.key_value(tokens) for layer in self.layers)

    def fuse_next(self, text: Tensor, context: Context, past: Past = ()) -> tuple[Tensor, Past]:
        """Fuse the next tokens; `past` holds keys and values [B, L, 2D] of each layer."""
        kept = []
        prepared = context.prepared or self.prepare(context.tokens)
        for layer, keys, before in zip(self.layers, prepared, past or [None] * len(prepared), strict=True):
            text, own = layer.read_next(text, keys, before)
            kept.append(own)
        return text, tuple(kept)

    def forward(
        self,
        text: Tensor,
        text_mask: Tensor,
        context: Context | PackedContext | None,
        summary_rows: int = 0,
    ) -> Tensor:
        """Fuse; in the last layer the first `summary_rows` rows are computed for position 0 only."""
        length = text.shape[1]
        all_rows = slice(0, text.shape[0])
        prepared = context.prepared if context is not None and context.prepared else [None] * len(self.layers)
        contexts = [None if context is None else self.seen_by(n, context) for n in range(len(self.layers))]
        for layer, context, keys in zip(self.layers[:-1], contexts[:-1], prepared[:-1], strict=True):
            shared = None if context is None else layer.share(context, keys)
            if isinstance(context, PackedContext):
                context = context._replace(read=None)
            text = layer(text, text_mask, shared, context, all_rows, length)
        last, context = self.layers[-1], contexts[-1]
        shared = None if context is None else last.share(context, prepared[-1])
        if not summary_rows:
            return last(text, text_mask, shared, context, all_rows, length)  # type: ignore[no-any-return]
        summaries = last(text, text_mask, shared, context, slice(0, summary_rows), 1)
        summaries = F.pad(summaries, (0, 0, 0, length - 1))
        if summary_rows == text.shape[0]:
            return summaries
        full = last(text, text_mask, shared, context, slice(summary_rows, text.shape[0]), length)
        return torch.cat([summaries, full])

    def attend(self, text: Tensor, text_mask: Tensor, context: Context, layer: int) -> tuple[Tensor, Tensor]:
        """Fuse with the attention of one layer computed step by step; all others run as in `forward`."""
        if context.mask is None:  # rows of one context would else be flattened to one
            shown = torch.ones(
                *context.rows.shape, context.tokens.shape[1], dtype=torch.bool, device=text.device
            )
            context = context._replace(mask=shown)
        layers = list(self.layers)
        kept: list[Tensor] = []

        def step_by_step(attention: Attention, inputs: Any, output: Tensor) -> Tensor:
            output, probabilities = attention.forward_with_probabilities(*inputs)
            kept.append(probabilities)
            return output

        hook = layers[layer].cross_attention.register_forward_hook(step_by_step)
        try:
            fused = self(text, text_mask, context)
        finally:
            hook.remove()
        return fused, kept[layers[:layer].count(layers[layer])]  # a shared layer runs in several passes
