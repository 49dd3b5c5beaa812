"""Choose and replace tokens for masked language modelling (X²-VLM, pre-training). Imports no torch.

A text has n = min(max_masks, max(1, round(mask_prob x tokens))) tokens to predict at most; special tokens count.
Any token except the first may be chosen, the closing one included (official code). Positions are visited in random
order; each contributes one token or, with `skipgram_prob`, a span, extended to whole words if set; tokens beyond n
are dropped at random. 80 % of the chosen tokens become the mask, 10 % a random id, 10 % stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from x2kit.data.config import MaskingConfig
from x2kit.plugin.tokenizers import Tokenizer

MASK_SHARE = 0.8
RANDOM_SHARE = 0.1
_ORDER, _SPAN, _LENGTH, _DROP, _REPLACE, _ID = range(6)


class MaskedIds(NamedTuple):
    """One masked text.

    Attributes:
        ids: after masking.
        positions: of the tokens to predict, ascending.
        labels: the original ids at these positions.
    """

    ids: list[int]
    positions: list[int]
    labels: list[int]


def num_masks(tokens: int, config: MaskingConfig) -> int:
    """Return the largest number of tokens to predict in a text of this many tokens, special ones included."""
    return min(config.max_masks, max(1, round(tokens * config.mask_prob)))


def mask_texts(
    texts: Sequence[Sequence[int]], rng: Generator, config: MaskingConfig, tokenizer: Tokenizer
) -> list[MaskedIds]:
    """Mask the tokens of texts.

    Args:
        texts: ids of each text, `cls` first; a text of `cls` alone has nothing to predict.
        rng: called once for all texts, since a call per text is slow.
        config: shares and limits.
        tokenizer: provides word starts, the id of the mask, and the vocabulary size.
    """
    longest = max((len(text) for text in texts), default=0)
    return mask_drawn(texts, draw_masks(rng, len(texts), longest), config, tokenizer)


def draw_masks(rng: Generator, texts: int, longest: int) -> NDArray[np.float64]:
    """Draw the random numbers of masking: [texts, 6, tokens of the longest text], each in [0, 1)."""
    return rng.random((texts, 6, longest))


def mask_drawn(
    texts: Sequence[Sequence[int]], draws: NDArray[np.float64], config: MaskingConfig, tokenizer: Tokenizer
) -> list[MaskedIds]:
    """Mask texts as `mask_texts` does, with the random numbers of `draw_masks`."""
    orders = draws[:, _ORDER].argsort(1)
    mask, vocab_size = tokenizer.special.mask, tokenizer.vocab_size
    masked = []
    for text, rows, order in zip(texts, draws.tolist(), orders.tolist(), strict=True):
        starts = tokenizer.starts_word(text) if config.whole_words else None
        chosen = _choose(len(text), starts, order, rows, config)
        ids = list(text)
        for position in chosen:
            draw = rows[_REPLACE][position]
            if draw < MASK_SHARE:
                ids[position] = mask
            elif draw < MASK_SHARE + RANDOM_SHARE:
                ids[position] = int(rows[_ID][position] * vocab_size)
        masked.append(MaskedIds(ids, chosen, [text[position] for position in chosen]))
    return masked


def _choose(
    length: int,
    starts: Sequence[bool] | None,
    order: list[int],
    draws: list[list[float]],
    config: MaskingConfig,
) -> list[int]:
    limit = num_masks(length, config)
    chosen: set[int] = set()
    for position in order:
        if len(chosen) >= limit:
            break
        if (
            position == 0 or position >= length or position in chosen
        ):  # `order` has the length of the longest text
            continue
        first, end = position, position + 1
        if draws[_SPAN][position] < config.skipgram_prob:
            end += 1 + int(draws[_LENGTH][position] * (config.skipgram_size - 1))
        if starts is not None:
            first, end = _whole_words(first, end, starts)
        chosen.update(range(max(first, 1), min(end, length)))
    if len(chosen) > limit:
        return sorted(sorted(chosen, key=draws[_DROP].__getitem__)[:limit])
    return sorted(chosen)


def _whole_words(first: int, end: int, starts: Sequence[bool]) -> tuple[int, int]:
    while first > 0 and not starts[first]:
        first -= 1
    while end < len(starts) and not starts[end]:
        end += 1
    return first, end
