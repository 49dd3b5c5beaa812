"""Rank as the official evaluation (X2-VLM, `Retrieval.py`, `evaluation`): one query at a time.

M images, T texts, N image tokens (summary and patches), L text tokens, D width, K candidates.

For each image its K texts of highest similarity, for each text its K images, each pair of them scored by the
matching head: the query is repeated K times, texts are padded to one length, every layer computes every position.
The attention kernel is the fused one that x2kit uses too, so that only what is computed differs, not how.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from x2kit_fusion.cross_bert import Attention, CrossBertEncoder

from x2kit.model import X2VLM
from x2kit.tasks.retrieval.metric import REST, Scores


def attention(block: Attention, states: Tensor, source: Tensor, source_mask: Tensor) -> Tensor:
    """Attend from states [K, L, D] to the tokens of source [K, S, D] where source_mask [K, S] is True."""

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (block.heads, -1)).transpose(1, 2)

    query = block.query(states)
    key, value = block.key_value(source).chunk(2, -1)
    attended = F.scaled_dot_product_attention(
        heads(query), heads(key), heads(value), attn_mask=source_mask[:, None, None]
    )
    return block.norm(states + block.output(attended.transpose(1, 2).flatten(2)))


def fuse(encoder: CrossBertEncoder, text: Tensor, text_mask: Tensor, image: Tensor) -> Tensor:
    """Fuse texts [K, L, D] with images [K, N, D] in BERT layers with cross-attention: [K, L, D]."""
    everything = torch.ones(image.shape[:2], dtype=torch.bool)
    for layer in encoder.layers:
        text = attention(layer.self_attention, text, text, text_mask)
        text = attention(layer.cross_attention, text, image, everything)
        text = layer.norm(text + layer.output(F.gelu(layer.intermediate(text))))
    return text


@torch.inference_mode()
def plain_scores(
    model: X2VLM, images: Tensor, texts: Tensor, text_mask: Tensor, similarity: Tensor, top_k: int
) -> Scores:
    """Compute matching logits of the candidates in both directions, -100 elsewhere.

    Args:
        model: with a CrossBert as fusion encoder, in evaluation mode.
        images: [M, N, D].
        texts: [T, L, D], all padded to one length; text_mask: [T, L] bool.
        similarity: [M, T].
    """

    def logits(text: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        return model.itm_logits(fuse(model.fusion, text, mask, image))[:, 1]

    image_to_text = torch.full_like(similarity, REST)
    for row, similar in enumerate(similarity):
        best = similar.topk(top_k).indices
        repeated = images[row].repeat(top_k, 1, 1)
        image_to_text[row, best] = logits(texts[best], text_mask[best], repeated)

    text_to_image = torch.full_like(similarity.T, REST)
    for row, similar in enumerate(similarity.T):
        best = similar.topk(top_k).indices
        text, mask = texts[row].repeat(top_k, 1, 1), text_mask[row].repeat(top_k, 1)
        text_to_image[row, best] = logits(text, mask, images[best])
    return Scores(image_to_text, text_to_image)
