"""Training captions as token ids: what is masked, what each position predicts. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from numpy.random import Generator

from x2kit.data.config import MaskingConfig
from x2kit.data.transforms.masking import mask_texts
from x2kit.plugin.tokenizers import Tokenizer


class CaptionIds(NamedTuple):
    """A training caption behind its prompt.

    Attributes:
        ids: tokens that are read.
        inserted: whether each is a mask inserted in front of the token that it predicts; see `reading_order`.
        places: positions in `ids` whose states predict a token.
        labels: the tokens that they predict.
    """

    ids: list[int]
    inserted: list[bool]
    places: list[int]
    labels: list[int]


def prompt_ids(prompt: str, tokenizer: Tokenizer) -> list[int]:
    """Encode a prompt that a caption continues: the first special token, then its pieces."""
    if not prompt.strip():
        return [tokenizer.special.cls]
    return [tokenizer.special.cls, *_pieces(prompt.strip(), tokenizer, len(prompt))]


def causal_caption(prompt: Sequence[int], caption: str, tokenizer: Tokenizer, max_tokens: int) -> CaptionIds:
    """Let each token behind the prompt be predicted from those before (X-VLM, models/model_captioning.py).

    A caption that is cut keeps its end token, as in the official code.
    """
    room = max(max_tokens - len(prompt), 1)
    ids = [*prompt, *_pieces(caption, tokenizer, max_tokens)[: room - 1], tokenizer.special.sep]
    places = range(len(prompt) - 1, len(ids) - 1)
    return CaptionIds(ids, [False] * len(ids), list(places), ids[len(prompt) :])


def masked_caption(
    prompt: Sequence[int],
    caption: str,
    tokenizer: Tokenizer,
    max_tokens: int,
    masking: MaskingConfig,
    insert: bool,
    rng: Generator,
) -> CaptionIds:
    """Choose tokens behind the prompt to predict from masks (X²-VLM, dataset/captioning_dataset.py).

    The number of choices counts the tokens behind the prompt and the first special token; the end token may be chosen,
    which teaches captions to stop. A caption that is cut has no end token.

    Args:
        prompt: from `prompt_ids`.
        caption: text without prompt.
        tokenizer: of the text encoder.
        max_tokens: longest text, prompt and special tokens included, inserted masks not.
        masking: shares and limits.
        insert: put a mask in front of each chosen token, which stays ("FG-free"); False replaces chosen tokens as in
            masked language modelling.
        rng: draws the choices.
    """
    pieces = [*_pieces(caption, tokenizer, max_tokens), tokenizer.special.sep]
    ids = [*prompt, *pieces][:max_tokens]
    before = len(prompt) - 1
    [masked] = mask_texts([ids[before:]], rng, masking, tokenizer)
    places = [before + place for place in masked.positions]
    if not insert:
        return CaptionIds(ids[:before] + masked.ids, [False] * len(ids), places, masked.labels)
    chosen = set(places)
    read: list[int] = []
    inserted: list[bool] = []
    for place, token in enumerate(ids):
        new = [tokenizer.special.mask, token] if place in chosen else [token]
        read += new
        inserted += [True] * (len(new) - 1) + [False]
    return CaptionIds(read, inserted, [place for place, new in enumerate(inserted) if new], masked.labels)


def _pieces(caption: str, tokenizer: Tokenizer, max_tokens: int) -> list[int]:
    (ids,) = tokenizer.encode([caption], max_tokens + 2)
    # X-VLM's encoder of other texts may have no end token; captions have one in any case
    return ids[1:-1] if ids[-1] == tokenizer.special.sep else ids[1 : max_tokens + 1]
