"""Texts that are read from left to right, for captions that a masked-language model writes. Imports torch.

B rows, L tokens, K masked tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from x2kit.errors import ShapeError
from x2kit.model.generation.beam_search import Search, beam_search
from x2kit.model.x2vlm import X2VLM, image_context
from x2kit.plugin import Context, VisionFeatures


def reading_order(inserted: Tensor) -> tuple[Tensor, Tensor]:
    """What each token sees, and where it stands: every token sees itself and all before it.

    Mask tokens may be inserted in front of the tokens that they ask for. Such a one has its token's place, and no other
    token sees it, so that one pass asks for many tokens although it hides none (official code, "fg_free").

    Args:
        inserted: [B, L] bool, the tokens that are such masks; none where masks replace tokens.
    Returns: sees [B, L, L] bool and positions [B, L] int64, as `TextEncoder.read_partly` takes them.
    """
    length = inserted.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=inserted.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=inserted.device)
    sees = before & (~inserted[:, None] | itself)
    real = (~inserted).long()
    return sees, real.cumsum(1) - real


def caption_states(model: X2VLM, ids: Tensor, inserted: Tensor, context: Context) -> Tensor:
    """Fused states [B, L, D] of captions that are read from left to right; the masked-language head reads them.

    Args:
        ids: [B, L] int64.
        inserted: [B, L] bool, as in `reading_order`.
        context: the images that they are about.
    Raises: HeadError if the text encoder reads whole texts only.
    """
    sees, positions = reading_order(inserted)
    return model.fuse(model.text.read_partly(ids, sees, positions), sees, context)


@torch.inference_mode()
def write_captions(
    model: X2VLM, features: VisionFeatures, prompt: Sequence[int], search: Search | None = None
) -> list[list[int]]:
    """A caption for each image, from the masked-language head: a mask behind the text asks for what comes next.

    Args:
        model: in evaluation mode.
        features: of B images.
        prompt: tokens that captions begin with, the special first one among them.
        search: how captions are searched for.
    Returns: B captions as token ids, without the prompt, with the separator at the end if they came to one.
    Raises: ShapeError if captions may grow longer than the text encoder reads; HeadError as in `caption_states`.
    """
    search = search or Search()
    longest = len(prompt) + search.max_length
    if longest > model.max_length:
        raise ShapeError(
            f"a prompt of {len(prompt)} tokens and captions of up to {search.max_length}, but the text encoder reads "
            f"at most {model.max_length}"
        )
    count = len(features.summary)
    rows = torch.arange(count, device=model.device).repeat_interleave(search.num_beams)
    context = image_context(features, rows)

    def next_token(ids: Tensor) -> Tensor:
        ids = torch.nn.functional.pad(ids.to(model.device), (0, 1), value=model.tokenizer.special.mask)
        states = caption_states(model, ids, torch.zeros_like(ids, dtype=torch.bool), context)
        last = torch.full((len(ids), 1), ids.shape[1] - 1, device=model.device)
        logits: Tensor = model.mlm_head(states, last)
        return logits[:, 0].float().log_softmax(-1)

    return beam_search(next_token, count, prompt, model.tokenizer.special.sep, search)
