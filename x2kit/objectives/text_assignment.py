"""Text assignment: tell which of two images a text describes (X-VLM's pretraining for NLVR2).

Source: X-VLM repository, models/model_nlvr_pretrain.py. B texts, M images, E common width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.errors import ShapeError

SIMILARITY_TEMPERATURE = 0.07
"""Fixed, not the learned temperature of the contrastive loss."""
SHARE_WITHOUT = 1 / 3
"""Share of texts whose own image is not shown."""


class Assignment(NamedTuple):
    """Images shown with each text.

    Attributes:
        images: [B, 2] int64, two of the M images.
        labels: [B] int64: 0 if the text describes the first, 1 if the second, 2 if neither.
    """

    images: Tensor
    labels: Tensor


def similar_image_weights(images: Tensor, own: Tensor) -> Tensor:
    """Compute the weight with which each image is drawn as negative of each text.

    Args:
        images: [M, E], unit length.
        own: [B] int64, the image of each text.
    Returns: [B, M] float32, not normalised: softmax of the similarity with the text's image, 0 for that image.
    Raises: ShapeError for fewer than 3 images, since a text may be shown with two negatives.
    """
    if len(images) < 3:
        raise ShapeError(f"text assignment needs at least 3 distinct images a step, found {len(images)}")
    images = images.detach().float()
    similarity = images[own] @ images.T / SIMILARITY_TEMPERATURE
    return similarity.softmax(1).scatter(1, own[:, None], 0)


def assign_images(weights: Tensor, own: Tensor, generator: torch.Generator | None = None) -> Assignment:
    """Draw two images for each text: its own and a negative in either order, or two negatives.

    Args:
        weights: [B, M] of `similar_image_weights`.
        own: [B] int64.
        generator: on the device of the weights; None for torch's global one.
    """
    # The two largest of w / Exponential(1) are two draws without replacement; multinomial would synchronise.
    noise = torch.empty_like(weights).exponential_(generator=generator)
    negatives = (weights / noise.clamp_min(torch.finfo(weights.dtype).tiny)).topk(2, 1).indices
    chance = torch.rand(2, len(own), device=weights.device, generator=generator)
    labels = torch.where(chance[0] < SHARE_WITHOUT, 2, (chance[1] < 0.5).long())
    return Assignment(place_images(own, negatives, labels), labels)


def place_images(own: Tensor, negatives: Tensor, labels: Tensor) -> Tensor:
    """Put each text's own image in the place of its label, and negatives in the others.

    Args:
        own: [B] int64.
        negatives: [B, 2] int64; the second is used only by texts of label 2.
        labels: [B] int64, see `Assignment`.
    Returns: [B, 2] int64.
    """
    first = torch.where(labels == 0, own, negatives[:, 0])
    second = torch.where(labels == 1, own, torch.where(labels == 0, negatives[:, 0], negatives[:, 1]))
    return torch.stack([first, second], 1)
