"""Contract of packed texts: rows that hold several texts, without padding between them. Imports torch.

R rows of W places, T texts, P tokens, M distinct contexts of N tokens, G groups of up to Q tokens with up to K leads,
D width. A token of P = R * W is numbered by row, then place. Masks are bool and True is kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class TokenGroup(NamedTuple):
    """G groups of Q places; the tokens of a group share keys and values.

    Attributes:
        size: (G, Q).
        rows: [G] int64, the context of each group; None if group g has context g of G.
        mask: [G, Q or 1, K + N] bool, what each token attends to, leads first; None for all.
        leads: [G, K] int64, the texts whose leads the group has; None without leads.
    """

    size: tuple[int, int]
    rows: Tensor | None
    mask: Tensor | None
    leads: Tensor | None = None


class GroupedTokens(NamedTuple):
    """P tokens in the order of groups, with S places in all; a place may be empty.

    Attributes:
        token: [S] int64, of each place; 0 if it is empty.
        filled: [S] bool, places with a token.
        place: [P] int64, of each token; 0 for padding.
        real: [P] bool, tokens that are no padding.
        groups: their sizes G * Q sum to S.
    """

    token: Tensor
    filled: Tensor
    place: Tensor
    real: Tensor
    groups: tuple[TokenGroup, ...]

    def spread(self, states: Tensor) -> list[Tensor]:
        """Bring tokens [P, D] together, as [G, Q, D] of each group; empty places hold any token."""
        places = _take(states, self.token, self.place, self.real)
        parts = torch.split(places, [group.size[0] * group.size[1] for group in self.groups])
        return [
            part.view(*group.size, states.shape[-1]) for part, group in zip(parts, self.groups, strict=True)
        ]

    def collect(self, parts: list[Tensor]) -> Tensor:
        """Put [G, Q, D] of each group back in the order of tokens, [P, D]; padding holds any token."""
        places = torch.cat([part.flatten(0, 1) for part in parts])
        return _take(places, self.place, self.token, self.filled)


class ReadTokens(NamedTuple):
    """The tokens of a last layer of which the result is read, one for each of T texts.

    Attributes:
        token: [T] int64, among the P tokens.
        own: the T tokens by row, for attention to the tokens of the row.
        images: the T tokens by context, as `PackedContext.images`.
    """

    token: Tensor
    own: GroupedTokens
    images: tuple[GroupedTokens, ...]


class PackedContext(NamedTuple):
    """Contexts of packed texts: takes the place of `Context` for a fusion encoder that declares `packs`.

    Attributes:
        tokens, prepared: as in `Context`.
        lead: [T, I, Dc], summary tokens, visible to the tokens of their text; None without.
        images: the tokens by context, for each of the I contexts of a text: usually one.
        read: if only the first token of each text is read; None for all tokens.
    """

    tokens: Tensor
    prepared: tuple[Tensor, ...]
    lead: Tensor | None
    images: tuple[GroupedTokens, ...]
    read: ReadTokens | None = None

    def select(self, place: int) -> PackedContext:
        """Return the contexts of one image per text: image `place` of several, or the only one."""
        if len(self.images) == 1:
            return self
        read = self.read and self.read._replace(images=(self.read.images[place],))
        lead = None if self.lead is None else self.lead[:, place : place + 1]
        return self._replace(lead=lead, images=(self.images[place],), read=read)


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, index: Tensor, inverse: Tensor, used: Tensor) -> Tensor:
        ctx.save_for_backward(inverse, used)
        return states.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        inverse, used = ctx.saved_tensors
        of_states = gradient.index_select(0, inverse)
        return of_states.masked_fill_(~used.view(-1, *[1] * (gradient.ndim - 1)), 0), None, None, None


def _take(states: Tensor, index: Tensor, inverse: Tensor, used: Tensor) -> Tensor:
    """Select `states[index]`, [A, D] to [B, D], where each row that counts is selected once.

    Its backward pass selects too: a sum by index is slower, and its order varies on CUDA.

    Args:
        inverse: [A] int64, where each row of `states` went.
        used: [A] bool, rows that count; the gradient of the others is 0.
    """
    return _Take.apply(states, index, inverse, used)  # type: ignore[no-any-return,no-untyped-call]
