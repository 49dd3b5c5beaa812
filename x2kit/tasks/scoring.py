"""Which jobs of a measurement are a process's own. Imports torch.

A job is what one process computes at once: a batch of images or texts, a pass of pairs. Jobs are shared whole, for
another batch would change the last digits of its numbers; so several processes find what one finds, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from x2kit.distributed.ranks import Ranks
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.encoders import Context, VisionFeatures


def own_part(costs: Tensor, ranks: Ranks) -> range:
    """The jobs of this process: neighbours, so that what all have done lies in order, rank by rank.

    Each job goes to the process in whose share of the whole cost its middle lies.

    Args:
        costs: [J] int64, above 0; of any unit, the same in all processes.
    """
    middles = 2 * costs.cumsum(0) - costs
    owners = middles * ranks.count // (2 * costs.sum())
    return range(int((owners < ranks.rank).sum()), int((owners <= ranks.rank).sum()))


Progress = Callable[[int, int], None]
"""Called with done and total."""

ALONE = Ranks()
CONTEXT_TOKENS_AT_ONCE = 8192
"""Image tokens whose keys and values, of every fusion layer, are held at a time."""
TOKENS_AT_ONCE = {"cpu": 2048}
"""Text tokens of one fusion pass, by type of device. On CPU what does not fit the cache takes twice as long."""
OTHER_TOKENS_AT_ONCE = 32768
ENOUGH = 1 / 8
"""A pass of this share of its tokens uses the device well: longer texts begin another, rather than pad its texts,
and an image with so many tokens of text gets passes of its own, in which its keys and values serve uncopied."""


def silent(done: int, total: int) -> None:
    """No progress."""


@dataclass(frozen=True)
class ImageBank:
    """Encoded images or videos: summary [M, D], patches [M, N, D], unit vectors [M, E], patch grid.

    E is 0 where they were encoded without projection.
    """

    summary: Tensor
    patches: Tensor
    projected: Tensor
    grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.summary)

    def block(self, rows: Tensor, device: torch.device) -> VisionFeatures:
        """Some images, on the model's device."""
        return VisionFeatures(self.summary[rows].to(device), self.patches[rows].to(device), self.grid)

    @classmethod
    def of_all(cls, own: Self | None, ranks: Ranks) -> Self:
        """The images of all processes, rank by rank; None of a process that has none."""
        summary, patches, projected = (own.summary, own.patches, own.projected) if own else (None, None, None)
        return cls(
            ranks.concatenate(summary),
            ranks.concatenate(patches),
            ranks.concatenate(projected),
            next(grid for grid in ranks.gather(own.grid if own else None) if grid),
        )


@dataclass(frozen=True)
class TextBank:
    """Encoded texts: tokens of all of them, one behind the other, [sum of lengths, D]; unit vectors [T, E].

    E is 0 where they were encoded without projection.
    """

    tokens: Tensor
    starts: Tensor
    lengths: Tensor
    projected: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def block(self, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Some texts, padded to the longest of them: tokens [B, L, D] and mask [B, L] bool, on the device."""
        lengths = self.lengths[rows]
        places = torch.arange(int(lengths.max()))
        mask = places < lengths[:, None]
        tokens = self.tokens[torch.where(mask, self.starts[rows][:, None] + places, 0)]
        return tokens.to(device), mask.to(device)


@torch.inference_mode()
def encode_image_bank(
    model: X2VLM,
    images: Iterable[Tensor],
    total: int,
    batch_size: int,
    progress: Progress = silent,
    project: bool = True,
) -> ImageBank:
    """Encode images [C, S, S] and videos [F, C, S, S], `total` of them, in batches of so many images.

    No batch reaches over a multiple of `batch_size`: one that begins there does not depend on what came before.
    Without `project` the model needs no contrastive head.
    """
    summary, patches, projected = [], [], []
    grid = (0, 0)
    done = 0
    for batch in _batched(images, batch_size):
        together = torch.stack(batch).to(model.device)
        features = model.encode_video(together) if together.ndim == 5 else model.encode_images(together)
        summary.append(features.summary.cpu())
        patches.append(features.patches.cpu())
        unit = model.project_images(features.summary) if project else features.summary[:, :0]
        projected.append(unit.cpu())
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
    progress: Progress = silent,
    ranks: Ranks = ALONE,
    project: bool = True,
) -> TextBank:
    """Encode cleaned texts, those of like length together.

    Args:
        model: in evaluation mode.
        texts: T cleaned texts, T > 0.
        max_tokens: tokens that are kept; never more than the encoder takes.
        batch_size: texts at a time.
        progress: called with done and total texts of this process.
        ranks: who share the work; all have the same texts, and get the same bank.
        project: compute the unit vectors, for which the model needs its contrastive head.
    """
    encoded = model.tokenizer.encode(list(texts), min(max_tokens, model.max_length))
    lengths = torch.tensor([len(ids) for ids in encoded])
    order = lengths.argsort(stable=True)
    batches = torch.split(order, batch_size)
    mine = own_part(torch.stack([len(rows) * lengths[rows[-1]] for rows in batches]), ranks)
    own = batches[mine.start : mine.stop]
    tokens, projected = [], []
    done = 0
    for rows in own:
        mask = torch.arange(int(lengths[rows[-1]])) < lengths[rows][:, None]
        ids = torch.full(mask.shape, model.tokenizer.special.pad)
        ids[mask] = torch.tensor([token for row in rows.tolist() for token in encoded[row]])
        states = model.encode_texts(ids.to(model.device), mask.to(model.device))
        tokens.append(states.cpu()[mask])
        projected.append((model.project_texts(states) if project else states[:, 0, :0]).cpu())
        done += len(rows)
        progress(done, sum(map(len, own)))
    ends = lengths[order].cumsum(0)  # tokens lie as they were encoded, in order of length
    return TextBank(
        ranks.concatenate(_joined(tokens)),
        _put_back(order, ends) - lengths,
        lengths,
        _put_back(order, ranks.concatenate(_joined(projected))),
    )


@torch.inference_mode()
def fuse_pairs(
    model: X2VLM,
    images: ImageBank,
    texts: TextBank,
    pairs: Tensor,
    head: Callable[[Tensor], Tensor],
    progress: Progress = silent,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Fuse pairs of an image and a text, and answer each with a head of the model.

    The pairs of a block of images are fused one after the other, so that keys and values are computed once for each
    image and only those of the block are held; passes have texts of like length, so that little padding is computed.

    Args:
        model: in evaluation mode.
        images, texts: encoded.
        pairs: [P, 2] int64, positions of image and text.
        head: `model.itm_logits` or `model.predict_bbox`; reads fused texts [B, L, D] at position 0.
        progress: called with done and total pairs of this process.
        ranks: who share the work; all have the same banks and pairs, and get the same answers.
    Returns: [P, answers], in the order of the pairs.
    """
    tokens_at_once = TOKENS_AT_ONCE.get(model.device.type, OTHER_TOKENS_AT_ONCE)
    images_at_once = max(1, CONTEXT_TOKENS_AT_ONCE // (1 + images.patches.shape[1]))
    passes = list(_all_passes(pairs, texts.lengths, images_at_once, tokens_at_once))
    mine = own_part(torch.tensor([each.cost for each in passes]), ranks)
    own = passes[mine.start : mine.stop]
    answers: list[Tensor] = []
    prepared, done = None, 0
    for each in own:
        if each.present is not prepared:
            context = model.prepare_images(images.block(each.present, model.device))
            prepared = each.present
        tokens, mask = texts.block(pairs[each.places, 1], model.device)
        fused = model.fuse(tokens, mask, _seen(context, each.rows), summary_rows=len(each.places))
        answers.append(head(fused).cpu())
        done += len(each.places)
        progress(done, sum(len(some.places) for some in own))
    joined = ranks.concatenate(_joined(answers))
    return _put_back(torch.cat([each.places for each in passes]), joined)


class _Pass(NamedTuple):
    """Pairs that are fused together.

    Attributes:
        places: [p] int64, which pairs.
        present: [m] int64, the images of the block, which is the same tensor for all its passes.
        rows: [p] int64, which of these each pair looks at.
        cost: text tokens, padding included.
    """

    places: Tensor
    present: Tensor
    rows: Tensor
    cost: int


def _all_passes(pairs: Tensor, lengths: Tensor, images_at_once: int, tokens_at_once: int) -> Iterator[_Pass]:
    """The passes of all pairs [P, 2], block by block, given the length of each text [T]."""
    for block in _blocks(pairs[:, 0], images_at_once):
        present, rows = torch.unique(pairs[block, 0], return_inverse=True)
        of_pairs = lengths[pairs[block, 1]]
        for some in _passes(rows, of_pairs, tokens_at_once):
            yield _Pass(block[some], present, rows[some], len(some) * int(of_pairs[some].max()))


def _joined(parts: Sequence[Tensor]) -> Tensor | None:
    return torch.cat(list(parts)) if parts else None


def _put_back(order: Tensor, rows: Tensor) -> Tensor:
    """Rows that lie in another order, as they were: `found[order] == rows`."""
    return torch.empty_like(rows).index_copy_(0, order, rows)


def _seen(context: Context, rows: Tensor) -> Context:
    """The context of some rows; of one image alone if they all look at it."""
    first = int(rows[0])
    if (rows == first).all():
        one = slice(first, first + 1)
        prepared = tuple(tensor[one] for tensor in context.prepared)
        context = context._replace(tokens=context.tokens[one], prepared=prepared)
        rows = torch.zeros_like(rows)
    return context._replace(rows=rows.to(context.tokens.device))


def _blocks(images: Tensor, images_at_once: int) -> tuple[Tensor, ...]:
    """Positions of pairs, given the image [P] of each, by blocks of so many distinct images."""
    order = images.argsort(stable=True)
    numbers = torch.unique_consecutive(images[order], return_inverse=True)[1]
    ends = torch.bincount(numbers // images_at_once).cumsum(0)
    return torch.tensor_split(order, ends[:-1])


def _passes(rows: Tensor, lengths: Tensor, tokens_at_once: int) -> Iterator[Tensor]:
    """Positions of the pairs of a block that are fused together.

    Args:
        rows: [P] int64, the image of each pair, numbered within the block.
        lengths: [P] int64, text tokens of each pair.
        tokens_at_once: text tokens of a pass, padding included; one text may have more.
    """
    enough = tokens_at_once * ENOUGH
    alone = torch.bincount(rows, lengths) >= enough
    group = torch.where(alone[rows], rows, len(alone))
    order = (group * (lengths.max() + 1) + lengths).argsort(stable=True)
    groups, sizes = group[order].tolist(), lengths[order].tolist()
    start = 0
    for end in range(1, len(order) + 1):
        if end < len(order) and groups[end] == groups[start]:
            # Sorted, so the next text would be the longest of the pass, and the last one is the longest so far.
            fits = (end + 1 - start) * sizes[end] <= tokens_at_once
            if fits and (sizes[end] == sizes[end - 1] or (end - start) * sizes[end - 1] < enough):
                continue
        yield order[start:end]
        start = end


def _batched(images: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    """Neighbours of one shape, `size` images; a video has as many as frames."""
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
