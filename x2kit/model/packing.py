"""Lay out texts without padding, from lengths that the host knows: in rows of several texts, or in buckets of rows.

No shape depends on a value on the device. Imports torch.

T texts, R rows of W places, P = R * W tokens, G groups of up to Q tokens with up to K leads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from x2kit.model.device import copied
from x2kit.plugin import Context
from x2kit.plugin.toolkit.packed import GroupedTokens, ReadTokens, TokenGroup

Ints = NDArray[np.int64]

ROW = 64
"""Places of a row of several texts, unless one is longer: a multiple of 8, in which texts leave 1 to 3 % empty, and in
which attention costs below 2 % of a layer of width 768."""
CALL_TOKENS = {"cpu": 64}
OTHER_CALL_TOKENS = 1024
"""Tokens that take as long as the fixed costs of a call by device type: weights read, their gradients added, kernels
started. Measured on a CPU at base size; on accelerators an estimate."""
GATHERED = 48
"""Empty places of a group that take as long as copies of the keys and values of an image, 196 tokens."""


def on_device(values: Ints | NDArray[np.bool_], device: torch.device) -> Tensor:
    """Copy values of the host to the device, without waiting for it."""
    return copied(torch.from_numpy(np.ascontiguousarray(values)), device)


def host_reads(device: torch.device) -> bool:
    """Whether the host reads values of the device without waiting for it."""
    return device.type == "cpu"


def row_lengths(mask: Tensor, lengths: Sequence[int] | None) -> Ints:
    """Return the tokens of each row, at least 1: as far as the host knows them, else the padded length.

    Args:
        mask: [B, L] bool, or [B, L, L] bool for texts that are read in part. A mask [B, L] of a CPU is read.
        lengths: of the first rows; None if unknown.
    """
    count, width = mask.shape[:2]
    if host_reads(mask.device) and mask.ndim == 2:
        kept = mask.numpy()[:, ::-1]
        return np.asarray(np.where(kept.any(1), width - kept.argmax(1), 1), dtype=np.int64)
    known = np.asarray([] if lengths is None else lengths[:count], dtype=np.int64)
    return np.concatenate([known.clip(1, width), np.full(count - len(known), width, np.int64)])


def bucket_edges(lengths: Sequence[int], call_tokens: int) -> list[int]:
    """Choose the widths of buckets, ascending: row i goes to the first that is not below its length.

    Minimises the tokens of all buckets, padding included, plus `call_tokens` for each.
    """
    distinct, counts = np.unique(np.asarray(lengths, dtype=np.int64), return_counts=True)
    rows = np.concatenate([[0], counts.cumsum()])
    # best[i]: lowest cost of the i shortest lengths; start[i]: the first length of their last bucket.
    best, start = [0], [0]
    for end in range(1, len(distinct) + 1):
        costs = [
            best[first] + int((rows[end] - rows[first]) * distinct[end - 1]) + call_tokens
            for first in range(end)
        ]
        start.append(int(np.argmin(costs)))
        best.append(costs[start[-1]])
    edges: list[int] = []
    end = len(distinct)
    while end:
        edges.append(int(distinct[end - 1]))
        end = start[end]
    return edges[::-1]


def bucket_rows(lengths: Ints, width: int, device: torch.device, equal_calls: bool) -> list[tuple[int, Ints]]:
    """Group rows of similar length: the width of each bucket, and its rows.

    Args:
        lengths: [B], at most `width`.
        width: the padded length.
        device: of the texts.
        equal_calls: as many buckets on every rank, as ranks with shards of the model need; these know `width` alone.
    """
    if equal_calls:
        edges = sorted({-(-width // 16) * 8, width})
    else:
        edges = bucket_edges(lengths.tolist(), CALL_TOKENS.get(device.type, OTHER_CALL_TOKENS)) or [width]
    place = np.searchsorted(edges, lengths)
    return [(min(edge, width), np.flatnonzero(place == number)) for number, edge in enumerate(edges)]


def called_rows(rows: Ints, device: torch.device) -> Tensor:
    """Return the rows of a bucket as an index of the device; an empty bucket reads the first row, in vain.

    Not all encoders take a call without rows, and ranks must call them equally often.
    """
    return on_device(rows if len(rows) else np.zeros(1, np.int64), device)


def in_order(buckets: Sequence[tuple[int, Ints]], device: torch.device) -> Tensor:
    """Return the index [B] int64 that puts the rows of all buckets, one after another, back in order."""
    rows = np.concatenate([rows for _, rows in buckets])
    return on_device(np.argsort(rows, kind="stable"), device)


class Rows(NamedTuple):
    """Rows of several texts.

    Attributes:
        width: W.
        number: R.
        start: [T] int64, the token that each text starts with, among R * W.
        lengths: [T] int64.
    """

    width: int
    number: int
    start: Ints
    lengths: Ints

    def tokens(self) -> tuple[Ints, Ints, Ints]:
        """Return for every token of a text, in order: its number among R * W, its text, its position in it."""
        text = np.repeat(np.arange(len(self.lengths)), self.lengths)
        ends = self.lengths.cumsum()
        position = np.arange(len(text)) - np.repeat(ends - self.lengths, self.lengths)
        return self.start[text] + position, text, position


def fill_rows(lengths: Ints, most: int | None = None) -> Rows:
    """Put texts in rows, each in the row with the least room that is enough, longest first.

    Args:
        lengths: [T], at least 1.
        most: highest width of a row; the longest text may exceed it.
    Returns: rows of the width with the fewest places in all.
    """
    longest = int(lengths.max(initial=1))
    widths = {max(longest, min(width, most or width)) for width in (longest, ROW // 2, ROW)}
    return min(
        (_filled(lengths, width) for width in sorted(widths)), key=lambda rows: rows.number * rows.width
    )


def _filled(lengths: Ints, width: int) -> Rows:
    start = np.zeros(len(lengths), np.int64)
    by_room: list[list[int]] = [[] for _ in range(width + 1)]
    number = 0
    for text in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[text])
        room = next((room for room in range(length, width) if by_room[room]), width)
        if room == width:
            by_room[width].append(number)
            number += 1
        row = by_room[room].pop()
        start[text] = row * width + width - room
        by_room[room - length].append(row)
    return Rows(width, max(number, 1), start, lengths)


@dataclass(frozen=True)
class PackedRows:
    """Texts of padded sources in rows of several, as index tensors of a device.

    Args:
        lengths: [T], of the texts.
        widths: [T], the padded lengths L of their sources.
        device: of the texts.
        most: see `fill_rows`.
    """

    rows: Rows
    source: Tensor
    """[R, W] int64: token number in the padded sources, flattened and concatenated; 0 for padding."""
    position: Tensor
    """[R, W] int64: position in the text."""
    text: Tensor
    """[R, W] int64: number of the text; -1 for padding."""
    widths: Ints

    @classmethod
    def of(cls, lengths: Ints, widths: Ints, device: torch.device, most: int | None = None) -> PackedRows:
        """Lay out the texts."""
        rows = fill_rows(lengths, most)
        token, text, position = rows.tokens()
        arrays = np.zeros((3, rows.number * rows.width), np.int64)
        arrays[2] = -1
        arrays[:, token] = (widths.cumsum() - widths)[text] + position, position, text
        source, positions, texts = on_device(arrays.reshape(3, rows.number, rows.width), device)
        return cls(rows, source, positions, texts, widths)

    def gather(self, values: Tensor) -> Tensor:
        """Gather [sum of L, ...] to [R, W, ...]."""
        return values.index_select(0, self.source.flatten()).view(*self.source.shape, *values.shape[1:])

    def sees(self, masks: Sequence[Tensor]) -> Tensor:
        """Return the tokens that each token attends to, those of its text that are kept: [R, W, W] bool.

        Args:
            masks: [T', L] bool each, or all [T', L, L].
        """
        same = self.text[:, :, None] == self.text[:, None, :]
        if not masks or masks[0].ndim == 2:
            kept = torch.cat([mask.flatten() for mask in masks])
            if not len(kept):
                return same
            # Padding of a row sees padding, so that no token sees nothing.
            return same & (self.gather(kept) | (self.text < 0))[:, None, :]
        kept = torch.cat([mask.flatten() for mask in masks])
        squares = self.widths**2
        offset = on_device(squares.cumsum() - squares, kept.device)[self.text.clamp_min(0)]
        width = on_device(self.widths, kept.device)[self.text.clamp_min(0)]
        index = (offset + self.position * width)[:, :, None] + self.position[:, None, :]
        # Pairs of two texts may lie outside; they are not the same.
        seen = kept.index_select(0, index.clamp_max(len(kept) - 1).flatten()).view_as(same)
        return same & (seen | (self.text < 0)[:, :, None])

    def scatter(self, packed: Tensor, texts: slice, width: int) -> Tensor:
        """Return texts as they were padded: [R * W, D] to [T', L, D]; padding holds the first token."""
        lengths, start = self.rows.lengths[texts], self.rows.start[texts]
        places = np.arange(width)
        index = start[:, None] + np.where(places < lengths[:, None], places, 0)
        selected = packed.index_select(0, on_device(index.ravel(), packed.device))
        return selected.view(len(start), width, packed.shape[-1])


def group_texts(images: Ints, lengths: Ints, contexts: int) -> tuple[Ints, Ints | None, int]:
    """Group the texts of each image, in several groups if the images have uneven numbers of tokens.

    Args:
        images: [T], below `contexts`.
        lengths: [T], tokens of each text.
        contexts: number of images, M.
    Returns: the group of each text; the image of each group, None if group m is that of image m of M; G.
    """
    if not len(images):
        return images, None, contexts
    order = np.argsort(images, kind="stable")
    ends = lengths[order].cumsum()
    _, first, inverse = np.unique(images[order], return_index=True, return_inverse=True)
    before = np.empty_like(lengths)
    before[order] = ends - lengths[order] - (ends - lengths[order])[first][inverse]
    size = int((before + lengths).max())
    best: tuple[int, tuple[Ints, Ints | None, int]] | None = None
    while True:
        part = before // size
        keys, group = np.unique(images * (part.max() + 1) + part, return_inverse=True)
        of_group = keys // (part.max() + 1)
        most = int(np.bincount(group, lengths).max())
        found: tuple[Ints, Ints | None, int] = (group, of_group, len(keys))
        cost = len(keys) * (most + GATHERED)
        if len(set(of_group.tolist())) == len(keys) and contexts * most <= cost:
            found, cost = (images, None, contexts), contexts * most
        if best is None or cost < best[0]:
            best = cost, found
        if size <= ROW:
            return best[1]
        size = -(-size // 2)


class Places(NamedTuple):
    """Places of tokens in groups, on the host; -1 for none.

    Attributes:
        token: [G, Q], among P tokens.
        place: [P], among G * Q.
        leads: [G, K], the texts of each group.
        lead: [G, Q], the text of each place, by its place among `leads`.
    """

    token: Ints
    place: Ints
    leads: Ints
    lead: Ints

    @classmethod
    def of(cls, token: Ints, text: Ints, total: int, group: Ints, count: int) -> Places:
        """Give each token a place.

        Args:
            token: [A], numbers among P tokens.
            text: [A] of each, ascending.
            total: P.
            group: [T], of each text; -1 for a text in no group.
            count: G.
        """
        kept = group[text] >= 0
        token, text = token[kept], text[kept]
        among, most = _numbered(group[text], count)
        lead, num_leads = _numbered(group, count)
        place = group[text] * most + among
        found = cls(
            np.full((count, most), -1),
            np.full(total, -1),
            np.full((count, num_leads), -1),
            np.full((count, most), -1),
        )
        found.token.reshape(-1)[place] = token
        found.lead.reshape(-1)[place] = lead[text]
        found.place[token] = place
        in_group = np.flatnonzero(group >= 0)
        found.leads[group[in_group], lead[in_group]] = in_group
        return found


def _numbered(group: Ints, count: int) -> tuple[Ints, int]:
    """Number the members of each group from 0, in order. Returns: numbers, and the most of a group, at least 1."""
    sizes = np.bincount(group[group >= 0], minlength=count)
    order = np.argsort(group, kind="stable")
    skipped = len(group) - int(sizes.sum())
    number = np.zeros_like(group)
    number[order[skipped:]] = np.arange(len(group) - skipped) - np.repeat(sizes.cumsum() - sizes, sizes)
    return number, int(sizes.max(initial=1))


def grouped_tokens(
    places: Sequence[Places], groups: Sequence[TokenGroup], device: torch.device
) -> GroupedTokens:
    """Join the places of several kinds of groups, each token in one of them."""
    token = np.concatenate([each.token.ravel() for each in places])
    place = np.full_like(places[0].place, -1)
    before = 0
    for each in places:
        place = np.where(each.place >= 0, each.place + before, place)
        before += each.token.size
    return GroupedTokens(
        on_device(token.clip(0), device),
        on_device(token >= 0, device),
        on_device(place.clip(0), device),
        on_device(place >= 0, device),
        tuple(groups),
    )


def by_image(
    packed: PackedRows, context: Context, masks: Sequence[tuple[int, Tensor | None]], read: bool
) -> GroupedTokens:
    """Group tokens by the context that they attend to.

    On a CPU the texts of one image form a group, which reads its keys and values in place. Elsewhere the host does not
    know the images of hard negatives: each text is a group.

    Args:
        packed: the T texts.
        context: `tokens` [M, N, Dc], `rows` [T] and `lead`.
        masks: of the context's tokens by piece: number of texts, and [T', N] bool or None.
        read: the first token of each text only.
    """
    device, rows = context.rows.device, packed.rows
    count = len(rows.lengths)
    if read:
        token, text, total = np.arange(count), np.arange(count), count
        lengths = np.ones(count, np.int64)
    else:
        (token, text, _), total, lengths = rows.tokens(), rows.number * rows.width, rows.lengths
    if host_reads(device):
        group, of_group, groups = group_texts(context.rows.numpy(), lengths, len(context.tokens))
        places = Places.of(token, text, total, group, groups)
        found = None if of_group is None else on_device(of_group, device)
        return grouped_tokens([places], [_of_images(places, found, context, masks, device)], device)
    masked = np.repeat([mask is not None for _, mask in masks], [number for number, _ in masks])
    parts: list[tuple[Places, TokenGroup]] = []
    for kind in (False, True):
        texts = np.flatnonzero(masked == kind)
        if not len(texts) and (kind or count):
            continue
        group = np.full(count, -1)
        group[texts] = np.arange(len(texts))
        places = Places.of(token, text, total, group, len(texts))
        mask = None
        if kind:
            mask = torch.cat([mask for _, mask in masks if mask is not None])[:, None]
            mask = F.pad(mask, (0 if context.lead is None else 1, 0), value=True)
        index = on_device(texts, device)
        leads = None if context.lead is None else index[:, None]
        size = (len(texts), places.token.shape[1])
        parts.append((places, TokenGroup(size, context.rows.index_select(0, index), mask, leads)))
    return grouped_tokens([places for places, _ in parts], [group for _, group in parts], device)


def _of_images(
    places: Places,
    rows: Tensor | None,
    context: Context,
    masks: Sequence[tuple[int, Tensor | None]],
    device: torch.device,
) -> TokenGroup:
    """Describe the groups of images: each token sees the lead of its text and the patches of its region."""
    size = (places.token.shape[0], places.token.shape[1])
    leads = None if context.lead is None else on_device(places.leads.clip(0), device)
    num_leads = 0 if leads is None else leads.shape[1]
    if num_leads < 2 and all(mask is None for _, mask in masks):
        return TokenGroup(size, rows, None, leads)
    empty = places.lead < 0
    seen_leads = (places.lead[:, :, None] == np.arange(num_leads)) | empty[:, :, None]
    length = context.tokens.shape[1]
    everything = torch.ones(1, length, dtype=torch.bool, device=device)
    if all(mask is None for _, mask in masks):
        patches = everything.expand(*size, -1)
    else:
        of_texts = torch.cat([everything.expand(n, -1) if mask is None else mask for n, mask in masks])
        text = np.take_along_axis(places.leads, places.lead.clip(0), 1)
        patches = of_texts.index_select(0, on_device(text.clip(0).ravel(), device)).view(*size, length)
        patches = patches | on_device(empty, device)[:, :, None]
    return TokenGroup(size, rows, torch.cat([on_device(seen_leads, device), patches], 2), leads)


def read_tokens(packed: PackedRows, sees: Tensor, images: Sequence[GroupedTokens]) -> ReadTokens:
    """Describe the first token of each text, which alone the last layer computes.

    Args:
        packed: the T texts.
        sees: [R, W, W], see `PackedRows.sees`.
        images: the first tokens by image, for each place.
    """
    rows, device = packed.rows, sees.device
    every = np.arange(len(rows.start))
    places = Places.of(every, every, len(every), rows.start // rows.width, rows.number)
    start = rows.start[places.token.clip(0)] if len(every) else np.zeros_like(places.token)
    size = (start.shape[0], start.shape[1])
    mask = sees.flatten(0, 1).index_select(0, on_device(start.ravel(), device)).view(*size, rows.width)
    group = TokenGroup(size, None, mask)
    return ReadTokens(on_device(rows.start, device), grouped_tokens([places], [group], device), tuple(images))
