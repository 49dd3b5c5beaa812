"""Which tokens are masked for masked language modelling (X²-VLM, section on pre-training). Imports no torch.

At most n = min(max_masks, max(1, round(mask_prob x tokens))) tokens of a text are predicted, the special ones
counted too. Every token but the first may be chosen, the closing one included (official code). Places are
taken in random order; each takes one token or, with `skipgram_prob`, a span, widened to whole words if set;
what is too much is left out at random. Of the chosen, 80 % become the mask, 10 % any id, 10 % stay.
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
_ORDER, _SPAN, _LENGTH, _CUT, _FATE, _ID = range(6)


class MaskedIds(NamedTuple):
    """One masked text: its ids, the positions to predict in rising order, and what stood there."""

    ids: list[int]
    positions: list[int]
    labels: list[int]


def num_masks(tokens: int, config: MaskingConfig) -> int:
    """Most tokens to predict in a text of so many tokens, special ones included."""
    return min(config.max_masks, max(1, round(tokens * config.mask_prob)))


def mask_texts(
    texts: Sequence[Sequence[int]], rng: Generator, config: MaskingConfig, tokenizer: Tokenizer
) -> list[MaskedIds]:
    """Mask the tokens of texts.

    Args:
        texts: ids of each, `cls` first; a text of `cls` alone has nothing to predict.
        rng: all numbers are taken from it at once, so that a row costs no calls of its own.
        config: shares and limits.
        tokenizer: says which ids begin a word, what the mask is, and how many ids there are.
    """
    longest = max((len(text) for text in texts), default=0)
    return mask_drawn(texts, draw_masks(rng, len(texts), longest), config, tokenizer)


def draw_masks(rng: Generator, texts: int, longest: int) -> NDArray[np.float64]:
    """The numbers that masks are made from: [texts, 6, tokens of the longest text], each in [0, 1)."""
    return rng.random((texts, 6, longest))


def mask_drawn(
    texts: Sequence[Sequence[int]], draws: NDArray[np.float64], config: MaskingConfig, tokenizer: Tokenizer
) -> list[MaskedIds]:
    """As `mask_texts`, given the numbers of each text (see `draw_masks`)."""
    orders = draws[:, _ORDER].argsort(1)
    mask, vocab_size = tokenizer.special.mask, tokenizer.vocab_size
    masked = []
    for text, rows, order in zip(texts, draws.tolist(), orders.tolist(), strict=True):
        starts = tokenizer.starts_word(text) if config.whole_words else None
        chosen = _choose(len(text), starts, order, rows, config)
        ids = list(text)
        for position in chosen:
            fate = rows[_FATE][position]
            if fate < MASK_SHARE:
                ids[position] = mask
            elif fate < MASK_SHARE + RANDOM_SHARE:
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
    wanted = num_masks(length, config)
    chosen: set[int] = set()
    for place in order:
        if len(chosen) >= wanted:
            break
        if place == 0 or place >= length or place in chosen:  # `order` is as long as the longest text
            continue
        first, end = place, place + 1
        if draws[_SPAN][place] < config.skipgram_prob:
            end += 1 + int(draws[_LENGTH][place] * (config.skipgram_size - 1))
        if starts is not None:
            first, end = _whole_words(first, end, starts)
        chosen.update(range(max(first, 1), min(end, length)))
    if len(chosen) > wanted:
        return sorted(sorted(chosen, key=draws[_CUT].__getitem__)[:wanted])
    return sorted(chosen)


def _whole_words(first: int, end: int, starts: Sequence[bool]) -> tuple[int, int]:
    while first > 0 and not starts[first]:
        first -= 1
    while end < len(starts) and not starts[end]:
        end += 1
    return first, end
