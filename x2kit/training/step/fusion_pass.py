"""Run the rows of all losses through the fusion encoder together. Imports torch.

R rows, L text tokens, N context tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from x2kit.model import X2VLM
from x2kit.model.packing import (
    Ints,
    PackedRows,
    bucket_rows,
    by_image,
    called_rows,
    host_reads,
    in_order,
    read_tokens,
    row_lengths,
)
from x2kit.plugin import Context, VisionFeatures, gather_rows
from x2kit.plugin.toolkit.packed import PackedContext

Key = tuple[str, str]
"""Stream and loss."""

IMAGES = "images"


class _Piece(NamedTuple):
    key: Key
    text: Tensor
    mask: Tensor
    context: Context | None
    summary: bool
    lengths: Sequence[int] | None


class FusionPass:
    """Collect rows, then call the fusion encoder without padding, as far as the host knows the lengths.

    An encoder that declares `packs` gets rows of several texts, one call per kind of context; any other gets rows of
    similar length in one call.

    Args:
        equal_calls: call the encoder equally often on all ranks, as ranks with shards of the model need.
    """

    def __init__(self, equal_calls: bool = False) -> None:
        self._pieces: list[_Piece] = []
        self._equal_calls = equal_calls

    def add(
        self,
        key: Key,
        text: Tensor,
        mask: Tensor,
        context: Context | None,
        summary: bool = False,
        lengths: Sequence[int] | None = None,
    ) -> None:
        """Add rows to fuse.

        Args:
            key: of the result of `run`.
            text: [R, L, D].
            mask: [R, L] bool; or [R, L, L] bool for texts that are read in part.
            context: of the rows; None for text alone. A context with a lead attends to the step's images, one or
                several a row, and its tokens may be empty.
            summary: only position 0 of the result is read.
            lengths: tokens of the first rows, as in `Texts`; the others count as long as the padding. A CPU reads masks
                [R, L] instead.
        """
        self._pieces.append(_Piece(key, text, mask, context, summary, lengths))

    def run(self, model: X2VLM, features: VisionFeatures | None) -> dict[Key, Tensor]:
        """Fuse all added rows. Returns: [R, L, D] for each key; padding holds any finite value."""
        pieces = self._pieces
        packs = model.fusion.packs
        groups: dict[tuple[object, ...], list[_Piece]] = {}
        for piece in pieces:
            # Masks per token are not padded further: a token that sees nothing has no finite result.
            width = piece.text.shape[1] if piece.mask.ndim == 3 else None
            # A last layer is computed for all tokens of a packed call or for the first one of each text.
            groups.setdefault((width, packs and piece.summary, *_kind(piece)), []).append(piece)
        patches = None
        if features is not None and any(_of_images(piece) for piece in pieces):
            patches = model.prepare_patches(features)
        fused: dict[Key, Tensor] = {}
        for of_call in groups.values():
            if packs and _packable(of_call):
                fused |= _fuse_packed(model, of_call, patches)
            else:
                # One call too where nothing is to be packed: ranks may differ in this.
                fused |= _fuse_buckets(model, of_call, patches, self._equal_calls, whole=packs)
        return fused


def _lengths(piece: _Piece) -> Ints:
    return row_lengths(piece.mask, piece.lengths)


def _packable(pieces: list[_Piece]) -> bool:
    """Whether rows of several texts can save anything: there are texts, shorter than padded or of known images."""
    known = host_reads(pieces[0].mask.device)
    return any(len(p.mask) and (known or (_lengths(p) < p.mask.shape[1]).any()) for p in pieces)


def _fuse_packed(model: X2VLM, pieces: list[_Piece], patches: Context | None) -> dict[Key, Tensor]:
    """Fuse pieces in rows of several texts."""
    sizes = [len(piece.text) for piece in pieces]
    widths = np.repeat([piece.text.shape[1] for piece in pieces], sizes)
    packed = PackedRows.of(np.concatenate([*map(_lengths, pieces)]), widths, pieces[0].text.device)
    text = packed.gather(torch.cat([piece.text.flatten(0, 1) for piece in pieces]))
    sees = packed.sees([piece.mask for piece in pieces])
    context = _join(pieces, patches, masked=False)
    read = context is not None and pieces[0].summary
    fused = model.fuse(text, sees, None if context is None else _pack(packed, context, pieces, sees, read))
    outputs: dict[Key, Tensor] = {}
    start = 0
    for piece, size in zip(pieces, sizes, strict=True):
        rows, length = slice(start, start + size), piece.text.shape[1]
        if read:
            outputs[piece.key] = F.pad(fused[rows, None], (0, 0, 0, length - 1))
        else:
            outputs[piece.key] = packed.scatter(fused.flatten(0, 1), rows, length)
        start += size
    return outputs


def _pack(
    packed: PackedRows, context: Context, pieces: list[_Piece], sees: Tensor, read: bool
) -> PackedContext:
    """Group the tokens of packed texts by the contexts of each place."""
    places = range(1 if context.rows.ndim == 1 else context.rows.shape[1])
    by_place = [
        [(len(piece.text), piece.context.select(place).mask) for piece in pieces if piece.context is not None]
        for place in places
    ]
    of_places = [context.select(place) for place in places]
    images = [by_image(packed, *of_place, read=False) for of_place in zip(of_places, by_place, strict=True)]
    last = None
    if read:
        firsts = [
            by_image(packed, *of_place, read=True) for of_place in zip(of_places, by_place, strict=True)
        ]
        last = read_tokens(packed, sees, firsts)
    return PackedContext(context.tokens, context.prepared, context.lead, tuple(images), last)


def _fuse_buckets(
    model: X2VLM, pieces: list[_Piece], patches: Context | None, equal_calls: bool, whole: bool
) -> dict[Key, Tensor]:
    """Fuse pieces in one call per bucket of rows of similar length; in one call of all rows if `whole`."""
    pieces = sorted(pieces, key=lambda piece: not piece.summary)
    sizes = [len(piece.text) for piece in pieces]
    width = max(piece.text.shape[1] for piece in pieces)
    text = torch.cat([F.pad(piece.text, (0, 0, 0, width - piece.text.shape[1])) for piece in pieces])
    mask = torch.cat([F.pad(piece.mask, (0, width - piece.mask.shape[-1])) for piece in pieces])
    context = _join(pieces, patches)
    lengths = np.concatenate([*map(_lengths, pieces)])
    summaries = sum(len(piece.text) for piece in pieces if piece.summary)
    buckets = bucket_rows(lengths, width, text.device, equal_calls)
    if whole or not len(lengths) or (len(buckets) == 1 and buckets[0][0] == width):
        fused = model.fuse(text, mask, context, summary_rows=summaries)
    else:
        parts = []
        for edge, rows in buckets:
            chosen = called_rows(rows, text.device)
            seen = mask.index_select(0, chosen)[:, :edge]
            out = model.fuse(
                gather_rows(text, chosen)[:, :edge],
                seen if seen.ndim == 2 else seen[:, :, :edge],
                None if context is None else _rows_of(context, chosen),
                summary_rows=int((rows < summaries).sum()),
            )
            parts.append(F.pad(out[: len(rows)], (0, 0, 0, width - edge)))
        fused = torch.cat(parts).index_select(0, in_order(buckets, text.device))
    split = zip(pieces, torch.split(fused, sizes), strict=True)
    return {piece.key: part[:, : piece.text.shape[1]] for piece, part in split}


def _rows_of(context: Context, rows: Tensor) -> Context:
    """Select the contexts of text rows."""
    mask = None if context.mask is None else context.mask.index_select(0, rows)
    lead = None if context.lead is None else gather_rows(context.lead, rows)
    return context._replace(rows=context.rows.index_select(0, rows), mask=mask, lead=lead)


def _kind(piece: _Piece) -> tuple[object, ...]:
    """Return what must be equal in pieces that share a call: text alone, images per row, or one stream's texts."""
    if piece.context is None:
        return ("alone",)
    return (IMAGES, *piece.context.rows.shape[1:]) if _of_images(piece) else ("texts", *piece.key)


def _of_images(piece: _Piece) -> bool:
    return piece.context is not None and piece.context.lead is not None


def _join(pieces: list[_Piece], patches: Context | None, masked: bool = True) -> Context | None:
    """Join the contexts of pieces of one kind; without their masks unless `masked`."""
    contexts = [piece.context for piece in pieces if piece.context is not None]
    if not contexts:
        return None
    if contexts[0].lead is None or patches is None:
        return contexts[0]
    lead = torch.cat([context.lead for context in contexts if context.lead is not None])
    rows = torch.cat([context.rows for context in contexts])
    mask = None
    if masked and any(context.mask is not None for context in contexts):
        everything = torch.ones(1, patches.tokens.shape[1], dtype=torch.bool, device=rows.device)
        masks = (everything.expand(*c.rows.shape, -1) if c.mask is None else c.mask for c in contexts)
        mask = torch.cat(list(masks))
    return patches._replace(rows=rows, mask=mask, lead=lead)
