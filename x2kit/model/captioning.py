"""Texts that are read from left to right, for captions that a masked-language model writes. Imports torch.

B rows, L tokens, K masked tokens, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from x2kit.model.x2vlm import X2VLM
from x2kit.plugin import Context


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
        context: the pictures that they are about.
    Raises: HeadError if the text encoder reads whole texts only.
    """
    sees, positions = reading_order(inserted)
    return model.fuse(model.text.read_partly(ids, sees, positions), sees, context)
