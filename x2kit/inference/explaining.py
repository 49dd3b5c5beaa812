"""Map the matching logit of a text and of its words onto the patches of an image. Imports torch.

Fusion encoders with attention: cross-attention × positive gradient of the logit (X-VLM, arXiv:2111.08276, section 4.2).
Others: occlusion, the drop of the logit when patches are hidden (arXiv:1311.2901, section 4.2).

T texts, L text tokens, N patches, P hidden squares of patches, W words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from x2kit.inference.one_image import OneImage, Picture, computing, encode_one
from x2kit.inference.results import Explanation, WordMap
from x2kit.model.attention_map import matching_attention, text_maps, token_maps
from x2kit.model.inputs import ImageInput
from x2kit.plugin.tokenizers import Tokenizer
from x2kit.tasks.captioning.words import UNSPACED
from x2kit.tasks.grounding.map_boxes import boxes_of_peaks

if TYPE_CHECKING:
    from x2kit.inference.model import Model

ROWS_AT_ONCE = 128
"""Rows of a fusion pass; those with gradients keep what all layers computed."""
HIDDEN_SHARE = 4
"""The side of a hidden square is the shorter side of the patch grid divided by this."""


class Heat(NamedTuple):
    """Maps [T, N] of texts or words over the patches, not negative, and how they were computed."""

    maps: Tensor
    method: str


def explain(model: Model, image: ImageInput, text: str) -> Explanation:
    """Compute the map of a text and of each of its words; see `Model.explain`."""
    model.require_part("itm")
    with computing(model):
        one = encode_one(model, image, [text])
        heat = text_heat(one)
        with model.tokenizing:
            pieces = word_pieces(model.module.tokenizer, one.ids[0].tolist())
            names = [model.module.tokenizer.decode(one.ids[0, word].tolist()).strip() for word in pieces]
        by_word = word_heat(one, pieces)
        whole = heat.maps[0].view(one.grid)
        (box,) = one.boxes(boxes_of_peaks(whole, 1).to(model.device), torch.zeros_like(one.ids[:, 0]))
    words = [
        WordMap(name, _unit(each.view(one.grid))) for name, each in zip(names, by_word.maps, strict=True)
    ]
    method = f"{heat.method}; words: {by_word.method}"
    return Explanation(one.name, text, _unit(whole), words, box, method, Picture(image, model.reader.spec))


def _unit(heat: Tensor) -> NDArray[np.float32]:
    """Divide a map by its maximum; a map of zeros stays."""
    values: NDArray[np.float32] = heat.float().cpu().numpy()
    return values / (values.max() or 1)


def word_pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[list[int]]:
    """Group the positions of a text's tokens by word, without special ones.

    In scripts without spaces (kana, Han) every piece counts as a word.
    """
    special = {tokenizer.special.pad, tokenizer.special.cls, tokenizer.special.sep}
    words: list[list[int]] = []
    for place, (id_, starts) in enumerate(zip(ids, tokenizer.starts_word(ids), strict=True)):
        if place == 0 or id_ in special:
            continue
        if starts or not words or UNSPACED.match(tokenizer.decode([id_]).strip()):
            words.append([place])
        else:
            words[-1].append(place)
    # SentencePiece may begin a word with a piece that is a space alone
    return [word for word in words if tokenizer.decode([ids[place] for place in word]).strip()]


def text_heat(one: OneImage) -> Heat:
    """Compute the map of each text, [T, N]."""
    layers = one.module.fusion.attention_layers
    if not layers:
        drops = [_occlusion(one, one.tokens[[row]], one.mask[[row]]) for row in range(len(one.ids))]
        side, _ = _square(one.grid)
        return Heat(torch.stack(drops), f"occlusion of {side} x {side} patches: drop of the matching logit")
    layer = layers // 2  # the default of weakly supervised grounding
    maps = [
        text_maps(one.module, part.tokens, part.mask, part.context(), layer)
        for part in one.split(ROWS_AT_ONCE)
    ]
    return Heat(
        torch.cat(maps), f"attention × gradient of the matching logit, layer {layer} of 0 to {layers - 1}"
    )


def word_heat(one: OneImage, words: Sequence[Sequence[int]]) -> Heat:
    """Compute the map of each word of a single text, [W, N].

    With attention: that of the word's tokens. The logit reads position 0, so other tokens have no gradient in the last
    layer, and the layer is one below it. With occlusion: what the drop of the logit loses when the word is masked too.
    """
    layers = one.module.fusion.attention_layers
    if layers > 1:
        layer = min(layers // 2, layers - 2)
        attention = matching_attention(one.module, one.tokens, one.mask, one.context(), layer)
        maps = token_maps(attention, one.mask)[0]
        found = [maps[list(word)].mean(0) for word in words]
        method = f"layer {layer}"
    else:
        whole = _occlusion(one, one.tokens, one.mask, signed=True)
        found = [(whole - _without(one, word)).clamp_min(0) for word in words]
        method = "occlusion with the word masked or not"
    return Heat(torch.stack(found) if found else one.tokens.new_zeros(0, one.grid[0] * one.grid[1]), method)


def _without(one: OneImage, word: Sequence[int]) -> Tensor:
    ids = one.ids.clone()
    ids[0, list(word)] = one.module.tokenizer.special.mask
    return _occlusion(one, one.module.encode_texts(ids, one.mask), one.mask, signed=True)


def _occlusion(one: OneImage, tokens: Tensor, mask: Tensor, signed: bool = False) -> Tensor:
    """Compute the drop [N] of the matching logit of one text at each patch: the mean over the squares that hide it."""
    seen = squares(one.grid).to(one.ids.device)
    rows = torch.cat([torch.ones_like(seen[:1]), seen])
    logits = torch.cat(
        [
            one.module.itm_logits(
                one.module.fuse(
                    tokens.expand(len(part), -1, -1), mask.expand(len(part), -1), one.seen(part), len(part)
                )
            )[:, 1]
            for part in torch.split(rows, ROWS_AT_ONCE)
        ]
    )
    drop = logits[0] - logits[1:]
    hidden = (~seen).float()
    return ((drop if signed else drop.clamp_min(0)) @ hidden) / hidden.sum(0)


def squares(grid: tuple[int, int]) -> Tensor:
    """Return the patches that stay visible as a square moves over the grid, [P, N] bool; each patch is hidden once."""
    side, step = _square(grid)
    tops, lefts = ([*range(0, count - side, step), count - side] for count in grid)
    seen = torch.ones(len(tops), len(lefts), *grid, dtype=torch.bool)
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            seen[row, column, top : top + side, left : left + side] = False
    return seen.view(-1, grid[0] * grid[1])


def _square(grid: tuple[int, int]) -> tuple[int, int]:
    """Return side and step of the hidden square in patches."""
    side = max(1, min(grid) // HIDDEN_SHARE)
    return side, max(1, side // 2)
