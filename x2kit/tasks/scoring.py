"""Encode images and texts once and score image-text pairs, split over ranks. Imports torch.

The unit of work is a job: a batch of images or texts, or one fusion pass over pairs. Ranks get whole jobs, because
another batch size would change the last digits; so any number of ranks gives the result of one, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from x2kit.distributed.ranks import Ranks
from x2kit.model.device import copied
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.encoders import Context, VisionFeatures


def jobs_of_rank(costs: Tensor, ranks: Ranks) -> range:
    """Return the consecutive jobs of this rank, about 1 / `ranks.count` of the total cost.

    A job belongs to the rank whose share of the cumulated cost contains its midpoint, so concatenating results rank
    by rank restores the order of the jobs.

    Args:
        costs: [J] int64, above 0, in any unit; equal on all ranks.
    """
    middles = 2 * costs.cumsum(0) - costs
    owners = middles * ranks.count // (2 * costs.sum())
    return range(int((owners < ranks.rank).sum()), int((owners <= ranks.rank).sum()))


Progress = Callable[[int, int], None]
"""Called with the number of finished and of all items."""

ONE_RANK = Ranks()
CONTEXT_TOKENS_AT_ONCE = 8192
"""Image tokens whose keys and values, for every fusion layer, are kept in memory at a time."""
TOKENS_AT_ONCE = {"cpu": 2048}
"""Text tokens of one fusion pass, by device type. On CPU a pass that exceeds the cache takes twice as long."""
OTHER_TOKENS_AT_ONCE = 32768
FULL_ENOUGH = 1 / 8
"""A pass filled to this share of its token limit uses the device well: longer texts then start a new pass instead of
padding this one, and an image with that many text tokens gets separate passes, which need no copy of its keys."""


def no_progress(done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class ImageBank:
    """Encoded images or videos.

    Attributes:
        summary: [M, D].
        patches: [M, N, D].
        projected: [M, E] unit vectors; E is 0 if encoded without projection.
        grid: (rows, columns) of the patches.
    """

    summary: Tensor
    patches: Tensor
    projected: Tensor
    grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.summary)

    def block(self, rows: Tensor, device: torch.device) -> VisionFeatures:
        """Select images by position [m] int64 and move them to the device."""
        return VisionFeatures(
            copied(self.summary[rows], device), copied(self.patches[rows], device), self.grid
        )

    @classmethod
    def gather(cls, own: Self | None, ranks: Ranks) -> Self:
        """Concatenate the banks of all ranks in rank order; a rank without images passes None."""
        summary, patches, projected = (own.summary, own.patches, own.projected) if own else (None, None, None)
        return cls(
            ranks.concatenate(summary),
            ranks.concatenate(patches),
            ranks.concatenate(projected),
            next(grid for grid in ranks.gather(own.grid if own else None) if grid),
        )


@dataclass(frozen=True)
class TextBank:
    """Encoded texts, packed without padding.

    Attributes:
        tokens: [sum of lengths, D].
        starts: [T] int64, first row of each text in `tokens`.
        lengths: [T] int64.
        projected: [T, E] unit vectors; E is 0 if encoded without projection.
    """

    tokens: Tensor
    starts: Tensor
    lengths: Tensor
    projected: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def block(self, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Select texts by position: tokens [B, L, D] and mask [B, L] bool, padded to the longest, on the device."""
        lengths = self.lengths[rows]
        places = torch.arange(int(lengths.max()))
        mask = places < lengths[:, None]
        tokens = self.tokens[torch.where(mask, self.starts[rows][:, None] + places, 0)]
        return copied(tokens, device), copied(mask, device)


@torch.inference_mode()
def encode_image_bank(
    model: X2VLM,
    images: Iterable[Tensor],
    total: int,
    batch_size: int,
    progress: Progress = no_progress,
    project: bool = True,
) -> ImageBank:
    """Encode `total` images [C, S, S] or videos [F, C, S, S] in batches of up to `batch_size` images.

    Batches end at multiples of `batch_size`, so a rank that starts at one forms the same batches as a single rank.
    Without `project` the model needs no contrastive head.
    """
    summary, patches, projected = [], [], []
    grid = (0, 0)
    done = 0
    for batch in _batched(images, batch_size):
        pixels = copied(torch.stack(batch), model.device)
        features = model.encode_video(pixels) if pixels.ndim == 5 else model.encode_images(pixels)
        summary.append(features.summary.cpu())
        patches.append(features.patches.cpu())
        unit = model.project_images(features.summary) if project else features.summary[:, :0]
        projected.append(unit.float().cpu())  # autocast gives half precision, in which similarities would tie
        grid = features.grid
        done += len(batch)
        progress(done, total)
    return ImageBank(torch.cat(summary), torch.cat(patches), torch.cat(projected), grid)


@torch.inference_mode()
def encode_text_bank(
    model: X2VLM,
    texts: Sequence[str],
    max_tokens: int,
    batch_size: int,
    progress: Progress = no_progress,
    ranks: Ranks = ONE_RANK,
    project: bool = True,
) -> TextBank:
    """Encode cleaned texts in batches of similar length.

    Args:
        model: in evaluation mode.
        texts: T cleaned texts, T > 0.
        max_tokens: tokens kept of a text, at most those that the encoder takes.
        batch_size: texts in a batch.
        progress: called with finished and total texts of this rank.
        ranks: share the work; all pass the same texts and get the same bank.
        project: compute the unit vectors, which needs the contrastive head.
    """
    encoded = model.tokenizer.encode(list(texts), min(max_tokens, model.max_length))
    lengths = torch.tensor([len(ids) for ids in encoded])
    order = lengths.argsort(stable=True)
    batches = torch.split(order, batch_size)
    mine = jobs_of_rank(torch.stack([len(rows) * lengths[rows[-1]] for rows in batches]), ranks)
    own = batches[mine.start : mine.stop]
    tokens, projected = [], []
    done = 0
    for rows in own:
        mask = torch.arange(int(lengths[rows[-1]])) < lengths[rows][:, None]
        ids = torch.full(mask.shape, model.tokenizer.special.pad)
        ids[mask] = torch.tensor([token for row in rows.tolist() for token in encoded[row]])
        states = model.encode_texts(copied(ids, model.device), copied(mask, model.device))
        tokens.append(states.cpu()[mask])
        projected.append((model.project_texts(states) if project else states[:, 0, :0]).float().cpu())
        done += len(rows)
        progress(done, sum(map(len, own)))
    ends = lengths[order].cumsum(0)  # tokens are packed in order of length
    return TextBank(
        ranks.concatenate(_concatenate(tokens)),
        _unsort(order, ends) - lengths,
        lengths,
        _unsort(order, ranks.concatenate(_concatenate(projected))),
    )


@torch.inference_mode()
def fuse_pairs(
    model: X2VLM,
    images: ImageBank,
    texts: TextBank,
    pairs: Tensor,
    head: Callable[[Tensor], Tensor],
    progress: Progress = no_progress,
    ranks: Ranks = ONE_RANK,
) -> Tensor:
    """Fuse image-text pairs and apply a head to each; arguments and result as `compute_pairs`.

    Args:
        head: `model.itm_logits` or `model.predict_bbox`; reads fused texts [B, L, D] at position 0.
    """

    def fused(tokens: Tensor, mask: Tensor, context: Context) -> Tensor:
        return head(model.fuse(tokens, mask, context, summary_rows=len(tokens)))

    return compute_pairs(model, images, texts, pairs, fused, tokens_at_once(model), progress, ranks)


def tokens_at_once(model: X2VLM) -> int:
    """Return the limit of text tokens in one fusion pass on the model's device."""
    return TOKENS_AT_ONCE.get(model.device.type, OTHER_TOKENS_AT_ONCE)


def compute_pairs(
    model: X2VLM,
    images: ImageBank,
    texts: TextBank,
    pairs: Tensor,
    compute: Callable[[Tensor, Tensor, Context], Tensor],
    at_once: int,
    progress: Progress = no_progress,
    ranks: Ranks = ONE_RANK,
) -> Tensor:
    """Compute something for each of many image-text pairs.

    Pairs are computed block by block of images: keys and values are computed once per image and kept for one block
    only. A pass holds texts of similar length, which keeps padding low.

    Args:
        model: in evaluation mode.
        images, texts: encoded.
        pairs: [P, 2] int64, positions of image and text.
        compute: of the pairs of one pass: tokens [B, L, D], mask [B, L] and prepared images to [B, outputs].
        at_once: limit of text tokens in a pass, padding included.
        progress: called with finished and total pairs of this rank.
        ranks: share the work; all pass the same banks and pairs and get the same outputs.
    Returns: [P, outputs], in the order of the pairs.
    """
    images_at_once = max(1, CONTEXT_TOKENS_AT_ONCE // (1 + images.patches.shape[1]))
    passes = list(_all_passes(pairs, texts.lengths, images_at_once, at_once))
    mine = jobs_of_rank(torch.tensor([each.cost for each in passes]), ranks)
    own = passes[mine.start : mine.stop]
    outputs: list[Tensor] = []
    prepared, done = None, 0
    for each in own:
        if each.block is not prepared:
            context = model.prepare_images(images.block(each.block, model.device))
            prepared = each.block
        tokens, mask = texts.block(pairs[each.places, 1], model.device)
        outputs.append(compute(tokens, mask, _select_rows(context, each.rows)).float().cpu())
        done += len(each.places)
        progress(done, sum(len(other.places) for other in own))
    gathered = ranks.concatenate(_concatenate(outputs))
    return _unsort(torch.cat([each.places for each in passes]), gathered)


class _Pass(NamedTuple):
    """Pairs of one fusion pass.

    Attributes:
        places: [p] int64, positions in the list of pairs.
        block: [m] int64, the images of the block; one tensor object shared by all its passes.
        rows: [p] int64, row of each pair's image in `block`.
        cost: text tokens, padding included.
    """

    places: Tensor
    block: Tensor
    rows: Tensor
    cost: int


def _all_passes(pairs: Tensor, lengths: Tensor, images_at_once: int, tokens_at_once: int) -> Iterator[_Pass]:
    """Yield the passes of all pairs [P, 2] block by block, given the length of each text [T]."""
    for places in _blocks(pairs[:, 0], images_at_once):
        block, rows = torch.unique(pairs[places, 0], return_inverse=True)
        pair_lengths = lengths[pairs[places, 1]]
        for chosen in _passes(rows, pair_lengths, tokens_at_once):
            cost = len(chosen) * int(pair_lengths[chosen].max())
            yield _Pass(places[chosen], block, rows[chosen], cost)


def _concatenate(parts: Sequence[Tensor]) -> Tensor | None:
    return torch.cat(list(parts)) if parts else None


def _unsort(order: Tensor, rows: Tensor) -> Tensor:
    """Undo a sort: return the tensor with `result[order] == rows`."""
    return torch.empty_like(rows).index_copy_(0, order, rows)


def _select_rows(context: Context, rows: Tensor) -> Context:
    """Set the rows of a context, cut to a single image if all rows share it."""
    first = int(rows[0])
    if (rows == first).all():
        one = slice(first, first + 1)
        prepared = tuple(tensor[one] for tensor in context.prepared)
        context = context._replace(tokens=context.tokens[one], prepared=prepared)
        rows = torch.zeros_like(rows)
    return context._replace(rows=rows.to(context.tokens.device))


def _blocks(images: Tensor, images_at_once: int) -> tuple[Tensor, ...]:
    """Split the positions of pairs, given the image [P] of each, into blocks of `images_at_once` distinct images."""
    order = images.argsort(stable=True)
    numbers = torch.unique_consecutive(images[order], return_inverse=True)[1]
    ends = torch.bincount(numbers // images_at_once).cumsum(0)
    return torch.tensor_split(order, ends[:-1])


def _passes(rows: Tensor, lengths: Tensor, tokens_at_once: int) -> Iterator[Tensor]:
    """Yield the positions of the pairs of each pass of a block.

    Args:
        rows: [P] int64, the image of each pair, numbered within the block.
        lengths: [P] int64, text tokens of each pair.
        tokens_at_once: limit of text tokens in a pass, padding included; a single text may exceed it.
    """
    enough = tokens_at_once * FULL_ENOUGH
    alone = torch.bincount(rows, lengths) >= enough
    group = torch.where(alone[rows], rows, len(alone))
    order = (group * (lengths.max() + 1) + lengths).argsort(stable=True)
    groups, sizes = group[order].tolist(), lengths[order].tolist()
    start = 0
    for end in range(1, len(order) + 1):
        if end < len(order) and groups[end] == groups[start]:
            # Lengths ascend: the next text would be the longest of the pass, the last one is the longest so far.
            fits = (end + 1 - start) * sizes[end] <= tokens_at_once
            if fits and (sizes[end] == sizes[end - 1] or (end - start) * sizes[end - 1] < enough):
                continue
        yield order[start:end]
        start = end


def _batched(images: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    """Yield batches of consecutive tensors of one shape, at most `size` images each; a video counts its frames."""
    batch: list[Tensor] = []
    for position, image in enumerate(images):
        if batch and (position % size == 0 or batch[0].shape != image.shape):
            yield batch
            batch = []
        batch.append(image)
        frames = len(image) if image.ndim == 4 else 1
        if (len(batch) + 1) * frames > size:
            yield batch
            batch = []
    if batch:
        yield batch
