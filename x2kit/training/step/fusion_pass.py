"""Run the rows of all losses through the fusion encoder together. Imports torch.

R rows, L text tokens, N context tokens, D width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.model import X2VLM
from x2kit.plugin import Context, VisionFeatures

Key = tuple[str, str]
"""Stream and loss."""

IMAGES = "images"


class _Piece(NamedTuple):
    key: Key
    text: Tensor
    mask: Tensor
    context: Context | None
    summary: bool


class FusionPass:
    """Collect rows, then call the fusion encoder once per padded length and kind of context."""

    def __init__(self) -> None:
        self._pieces: list[_Piece] = []

    def add(
        self, key: Key, text: Tensor, mask: Tensor, context: Context | None, summary: bool = False
    ) -> None:
        """Add rows to fuse.

        Args:
            key: of the result of `run`.
            text: [R, L, D].
            mask: [R, L] bool; or [R, L, L] bool for texts that are read in part.
            context: of the rows; None for text alone. A context with a lead attends to the step's images, one or
                several a row, and its tokens may be empty.
            summary: only position 0 of the result is read.
        """
        self._pieces.append(_Piece(key, text, mask, context, summary))

    def run(self, model: X2VLM, features: VisionFeatures | None) -> dict[Key, Tensor]:
        """Fuse all added rows. Returns: [R, L, D] for each key."""
        groups: dict[tuple[object, ...], list[_Piece]] = {}
        for piece in self._pieces:
            groups.setdefault((piece.text.shape[1], piece.mask.ndim, *_kind(piece)), []).append(piece)
        fused: dict[Key, Tensor] = {}
        patches = None
        if features is not None and any(kind == IMAGES for _, _, kind, *_ in groups):
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
    """Return what must be equal in pieces that share a call: text alone, images per row, or one stream's texts."""
    if piece.context is None:
        return ("alone",)
    return (IMAGES, *piece.context.rows.shape[1:]) if _of_images(piece) else ("texts", *piece.key)


def _of_images(piece: _Piece) -> bool:
    return piece.context is not None and piece.context.lead is not None


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
        masks = (everything.expand(*c.rows.shape, -1) if c.mask is None else c.mask for c in contexts)
        mask = torch.cat(list(masks))
    return patches._replace(rows=rows, mask=mask, lead=lead)
