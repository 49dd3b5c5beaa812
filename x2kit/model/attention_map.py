"""Map a text onto the patches of an image, from cross-attention and gradient (X-VLM, Grounding.py). Imports torch.

B rows, L text tokens, N patches, H heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.model.x2vlm import X2VLM
from x2kit.plugin import Context


class Attention(NamedTuple):
    """Cross-attention of one fusion layer to an image: its summary, then its patches.

    Attributes:
        probabilities: [B, H, L, 1 + N].
        gradient: [B, H, L, 1 + N], of the matching logit with respect to them.
    """

    probabilities: Tensor
    gradient: Tensor


def matching_attention(
    model: X2VLM, text: Tensor, text_mask: Tensor, context: Context, layer: int
) -> Attention:
    """Compute the cross-attention of a layer, and the gradient of the logit of "matched" with respect to it.

    Works under `torch.no_grad`, not under `torch.inference_mode`.

    Args:
        model: in evaluation mode, with a matching head.
        text: [B, L, D], encoded texts.
        text_mask: [B, L] bool.
        context: of whole images, with the summary as lead or as first token (`X2VLM.prepare_images`).
        layer: of the fusion encoder, from 0.
    Raises: HeadError for a model without matching head, or a fusion encoder without attention in this layer.
    """
    with torch.enable_grad():
        text = text.detach().requires_grad_()  # so that there is a graph, even if all parameters are frozen
        fused, probabilities = model.attend(text, text_mask, context, layer)
        # Rows are independent, so the gradient of the sum is that of each row.
        (gradient,) = torch.autograd.grad(model.itm_logits(fused)[:, 1].sum(), probabilities)
    return Attention(probabilities.detach(), gradient)


def token_maps(attention: Attention, text_mask: Tensor) -> Tensor:
    """Compute the map of every token, [B, L, N]: attention × positive part of the gradient, mean over heads.

    The summary is dropped, and the maps of padding are 0.

    Args:
        attention: see `matching_attention`.
        text_mask: [B, L] bool.
    """
    relevance = attention.probabilities * attention.gradient.clamp_min(0)
    return relevance[..., 1:].mean(1) * text_mask[..., None]


def text_maps(model: X2VLM, text: Tensor, text_mask: Tensor, context: Context, layer: int) -> Tensor:
    """Compute the map of every text, [B, N]: the mean of its tokens' maps; arguments as `matching_attention`.

    The mean is over the tokens of the text itself. The official code counts padding too, so its maps shrink with the
    longest text of the batch.
    """
    maps = token_maps(matching_attention(model, text, text_mask, context, layer), text_mask)
    return maps.sum(1) / text_mask.sum(1, keepdim=True)
