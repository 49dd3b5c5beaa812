"""The fusion pass of a step: rows of all losses that look at images go through the encoder together.

R rows, L text tokens, N context tokens, D width. Imports torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.model import X2VLM
from x2kit.plugin import Context, VisionFeatures, gather_rows

Key = tuple[str, str]
"""Stream and loss."""


IMAGES = ("images",)


class _Piece(NamedTuple):
    key: Key
    text: Tensor
    mask: Tensor
    context: Context | None
    summary: bool


class FusionPass:
    """Collects rows, then runs one call of the fusion encoder for each padded length and kind of context.

    Args:
        few: the rows look at few of the contexts, so only those are prepared. Which they are is asked of the device,
            which waits for it.
    """

    def __init__(self, few: bool = False) -> None:
        self._pieces: list[_Piece] = []
        self._few = few

    def add(
        self, key: Key, text: Tensor, mask: Tensor, context: Context | None, summary: bool = False
    ) -> None:
        """Rows to fuse.

        Args:
            key: under which `run` gives the result.
            text: [R, L, D].
            mask: [R, L] bool.
            context: what they look at; None for text alone. A context with a lead looks at the step's images, so
                that its tokens need not be given.
            summary: only position 0 of the result will be read.
        """
        self._pieces.append(_Piece(key, text, mask, context, summary))

    def run(self, model: X2VLM, features: VisionFeatures | None) -> dict[Key, Tensor]:
        """Fuse all rows that were added: [R, L, D] for each key."""
        pieces = self._pieces
        if self._few:
            pieces, features = _only_seen(pieces, features)
        groups: dict[tuple[object, ...], list[_Piece]] = {}
        for piece in pieces:
            groups.setdefault((piece.text.shape[1], *_kind(piece)), []).append(piece)
        fused: dict[Key, Tensor] = {}
        patches = None
        if features is not None and any(tuple(kind) == IMAGES for _, *kind in groups):
            patches = model.prepare_patches(features)
        for pieces in groups.values():
            pieces.sort(key=lambda piece: not piece.summary)
            context = _join(pieces, patches)
            out = model.fuse(
                torch.cat([piece.text for piece in pieces]),
                torch.cat([piece.mask for piece in pieces]),
                context,
                summary_rows=sum(len(piece.text) for piece in pieces if piece.summary),
            )
            sizes = [len(piece.text) for piece in pieces]
            fused.update(zip((piece.key for piece in pieces), torch.split(out, sizes), strict=True))
        return fused


def _kind(piece: _Piece) -> tuple[object, ...]:
    """Pieces of one kind can share a call: text alone, images, or one stream's own texts."""
    if piece.context is None:
        return ("alone",)
    return IMAGES if piece.context.lead is not None else ("texts", *piece.key)


def _only_seen(
    pieces: list[_Piece], features: VisionFeatures | None
) -> tuple[list[_Piece], VisionFeatures | None]:
    """The same pieces over no more images and no more texts than they look at."""
    looking = [piece.context for piece in pieces if piece.context is not None and _kind(piece) == IMAGES]
    places: Iterator[Tensor] = iter([])
    if features is not None and looking:
        seen, place = torch.unique(torch.cat([context.rows for context in looking]), return_inverse=True)
        places = iter(torch.split(place, [len(context.rows) for context in looking]))
        features = VisionFeatures(features.summary, gather_rows(features.patches, seen), features.grid)
    fewer = []
    for piece in pieces:
        context = piece.context
        if context is not None and _kind(piece) == IMAGES:
            context = context._replace(rows=next(places))
        elif context is not None:
            seen, place = torch.unique(context.rows, return_inverse=True)
            context = context._replace(tokens=gather_rows(context.tokens, seen), rows=place)
        fewer.append(piece._replace(context=context))
    return fewer, features


def _join(pieces: list[_Piece], patches: Context | None) -> Context | None:
    contexts = [piece.context for piece in pieces if piece.context is not None]
    if not contexts:
        return None
    if contexts[0].lead is None or patches is None:
        return contexts[0]
    lead = torch.cat([context.lead for context in contexts if context.lead is not None])
    rows = torch.cat([context.rows for context in contexts])
    mask = None
    if any(context.mask is not None for context in contexts):
        everything = torch.ones(1, patches.tokens.shape[1], dtype=torch.bool, device=rows.device)
        mask = torch.cat([everything.expand(len(c.rows), -1) if c.mask is None else c.mask for c in contexts])
    return patches._replace(rows=rows, mask=mask, lead=lead)
