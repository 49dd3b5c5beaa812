"""Encoding and scoring in bulk: every picture and text is encoded once, every pair fused once. Imports torch.

M pictures, T texts, P pairs, N patches, L text tokens, D width, E common width. What is encoded lies in main memory;
a block of it goes to the model's device when it is needed, so a small device can measure a large set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.encoders import Context, VisionFeatures

Progress = Callable[[int, int], None]
"""Called with done and total."""

CONTEXT_TOKENS_AT_ONCE = 8192
"""Picture tokens whose keys and values, of every fusion layer, are held at a time."""
TOKENS_AT_ONCE = {"cpu": 2048}
"""Text tokens of one fusion pass, by type of device. On CPU what does not fit the cache takes twice as long."""
OTHER_TOKENS_AT_ONCE = 32768
ENOUGH = 1 / 8
"""A pass of this share of its tokens uses the device well: longer texts begin another, rather than pad its texts,
and a picture with so many tokens of text gets passes of its own, in which its keys and values serve uncopied."""


def silent(done: int, total: int) -> None:
    """No progress."""


@dataclass(frozen=True)
class PictureBank:
    """Encoded pictures or videos: summary [M, D], patches [M, N, D], unit vectors [M, E], patch grid."""

    summary: Tensor
    patches: Tensor
    projected: Tensor
    grid: tuple[int, int]

    def __len__(self) -> int:
        return len(self.summary)

    def block(self, rows: Tensor, device: torch.device) -> VisionFeatures:
        """Some pictures, on the model's device."""
        return VisionFeatures(self.summary[rows].to(device), self.patches[rows].to(device), self.grid)


@dataclass(frozen=True)
class TextBank:
    """Encoded texts: tokens of all of them, one behind the other, [sum of lengths, D]; unit vectors [T, E]."""

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
def encode_pictures(
    model: X2VLM, pictures: Iterable[Tensor], total: int, batch_size: int, progress: Progress = silent
) -> PictureBank:
    """Encode pictures [C, S, S] and videos [F, C, S, S], `total` of them, in batches of so many pictures."""
    summary, patches, projected = [], [], []
    grid = (0, 0)
    done = 0
    for batch in _batched(pictures, batch_size):
        together = torch.stack(batch).to(model.device)
        features = model.encode_video(together) if together.ndim == 5 else model.encode_images(together)
        summary.append(features.summary.cpu())
        patches.append(features.patches.cpu())
        projected.append(model.project_images(features.summary).cpu())
        grid = features.grid
        done += len(batch)
        progress(done, total)
    return PictureBank(torch.cat(summary), torch.cat(patches), torch.cat(projected), grid)


@torch.inference_mode()
def encode_texts(
    model: X2VLM, texts: Sequence[str], max_tokens: int, batch_size: int, progress: Progress = silent
) -> TextBank:
    """Encode cleaned texts, those of like length together.

    Args:
        model: in evaluation mode.
        texts: T cleaned texts, T > 0.
        max_tokens: tokens that are kept; never more than the encoder takes.
        batch_size: texts at a time.
    """
    encoded = model.tokenizer.encode(list(texts), min(max_tokens, model.max_length))
    lengths = torch.tensor([len(ids) for ids in encoded])
    tokens: list[Tensor] = [torch.empty(0)] * len(encoded)
    projected: list[Tensor] = [torch.empty(0)] * len(encoded)
    order = lengths.argsort(stable=True).tolist()
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        mask = torch.arange(int(lengths[rows[-1]])) < lengths[rows][:, None]
        ids = torch.full(mask.shape, model.tokenizer.special.pad)
        ids[mask] = torch.tensor([token for row in rows for token in encoded[row]])
        states = model.encode_texts(ids.to(model.device), mask.to(model.device))
        vectors = model.project_texts(states).cpu()
        for row, state, vector in zip(rows, states.cpu(), vectors, strict=True):
            tokens[row], projected[row] = state[: lengths[row]], vector
        progress(start + len(rows), len(order))
    return TextBank(torch.cat(tokens), lengths.cumsum(0) - lengths, lengths, torch.stack(projected))


@torch.inference_mode()
def fuse_pairs(
    model: X2VLM,
    pictures: PictureBank,
    texts: TextBank,
    pairs: Tensor,
    head: Callable[[Tensor], Tensor],
    progress: Progress = silent,
) -> Tensor:
    """Fuse pairs of a picture and a text, and answer each with a head of the model.

    The pairs of a block of pictures are fused one after the other, so that keys and values are computed once for each
    picture and only those of the block are held; passes have texts of like length, so that little padding is computed.

    Args:
        model: in evaluation mode.
        pictures, texts: encoded.
        pairs: [P, 2] int64, positions of picture and text.
        head: `model.itm_logits` or `model.predict_bbox`; reads fused texts [B, L, D] at position 0.
    Returns: [P, answers], in the order of the pairs.
    """
    answers: list[Tensor] = []
    places: list[Tensor] = []
    done = 0
    tokens_at_once = TOKENS_AT_ONCE.get(model.device.type, OTHER_TOKENS_AT_ONCE)
    pictures_at_once = max(1, CONTEXT_TOKENS_AT_ONCE // (1 + pictures.patches.shape[1]))
    for block in _blocks(pairs[:, 0], pictures_at_once):
        present, rows = torch.unique(pairs[block, 0], return_inverse=True)
        context = model.prepare_pictures(pictures.block(present, model.device))
        for some in _passes(rows, texts.lengths[pairs[block, 1]], tokens_at_once):
            place = block[some]
            tokens, mask = texts.block(pairs[place, 1], model.device)
            fused = model.fuse(tokens, mask, _seen(context, rows[some]), summary_rows=len(place))
            answers.append(head(fused).cpu())
            places.append(place)
            done += len(place)
            progress(done, len(pairs))
    joined = torch.cat(answers)
    return torch.empty_like(joined).index_copy_(0, torch.cat(places), joined)


def _seen(context: Context, rows: Tensor) -> Context:
    """The context of some rows; of one picture alone if they all look at it."""
    first = int(rows[0])
    if (rows == first).all():
        one = slice(first, first + 1)
        prepared = tuple(tensor[one] for tensor in context.prepared)
        context = context._replace(tokens=context.tokens[one], prepared=prepared)
        rows = torch.zeros_like(rows)
    return context._replace(rows=rows.to(context.tokens.device))


def _blocks(pictures: Tensor, pictures_at_once: int) -> tuple[Tensor, ...]:
    """Positions of pairs, given the picture [P] of each, by blocks of so many distinct pictures."""
    order = pictures.argsort(stable=True)
    numbers = torch.unique_consecutive(pictures[order], return_inverse=True)[1]
    ends = torch.bincount(numbers // pictures_at_once).cumsum(0)
    return torch.tensor_split(order, ends[:-1])


def _passes(rows: Tensor, lengths: Tensor, tokens_at_once: int) -> Iterator[Tensor]:
    """Positions of the pairs of a block that are fused together.

    Args:
        rows: [P] int64, the picture of each pair, numbered within the block.
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


def _batched(pictures: Iterable[Tensor], size: int) -> Iterator[list[Tensor]]:
    """Neighbours of one shape, `size` pictures; a video has as many as frames."""
    batch: list[Tensor] = []
    for picture in pictures:
        if batch and batch[0].shape != picture.shape:
            yield batch
            batch = []
        batch.append(picture)
        frames = len(picture) if picture.ndim == 4 else 1
        if (len(batch) + 1) * frames > size:
            yield batch
            batch = []
    if batch:
        yield batch
