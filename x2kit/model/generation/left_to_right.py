"""Generate captions left to right with the masked-language head. Imports torch.

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
    """Build the causal attention mask and positions, with optional inserted mask tokens.

    Every token sees itself and all tokens before it. A mask token may be inserted in front of the token to predict: it
    gets that token's position and no other token sees it, so one pass predicts many tokens without hiding any
    (official code, "fg_free").

    Args:
        inserted: [B, L] bool, True for inserted masks; all False if masks replace tokens.
    Returns: sees [B, L, L] bool and positions [B, L] int64, the arguments of `TextEncoder.read_partly`.
    """
    length = inserted.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=inserted.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=inserted.device)
    sees = before & (~inserted[:, None] | itself)
    real = (~inserted).long()
    return sees, real.cumsum(1) - real


def caption_states(model: X2VLM, ids: Tensor, inserted: Tensor, context: Context) -> Tensor:
    """Compute fused states [B, L, D] of captions read left to right, for the masked-language head.

    Args:
        ids: [B, L] int64.
        inserted: [B, L] bool, as in `reading_order`.
        context: images of the captions.
    Raises: HeadError if the text encoder does not implement `read_partly`.
    """
    sees, positions = reading_order(inserted)
    return model.fuse(model.text.read_partly(ids, sees, positions), sees, context)


@torch.inference_mode()
def write_captions(
    model: X2VLM, features: VisionFeatures, prompt: Sequence[int], search: Search | None = None
) -> list[list[int]]:
    """Generate a caption for each image: the masked-language head predicts a mask appended to the text.

    Args:
        model: in evaluation mode.
        features: of B images.
        prompt: first tokens of all captions, including the special first token.
        search: settings of the beam search.
    Returns: B captions as token ids, without the prompt, ending with the separator unless cut at the maximum length.
    Raises: ShapeError if prompt and caption may exceed the text encoder's length; HeadError as in `caption_states`.
    """
    search = search or Search()
    longest = len(prompt) + search.max_length
    if longest > model.max_length:
        raise ShapeError(
            f"prompt ({len(prompt)} tokens) and max_length ({search.max_length}) exceed the {model.max_length} tokens "
            "of the text encoder"
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
