"""Use a model in the plain way: read everything, encode everything, one fusion pass for each list of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from x2kit.model import X2VLM
from x2kit.model.x2vlm import image_context


@torch.inference_mode()
def similarity(model: X2VLM, images: Sequence[Any], texts: Sequence[str]) -> Tensor:
    """Cosine similarity [images, texts]."""
    vectors = model.project_images(model.encode_images(model.read(images)).summary)
    return vectors @ model.project_texts(model.encode_texts(*model.tokenize(texts))).T


@torch.inference_mode()
def match(model: X2VLM, images: Sequence[Any], texts: Sequence[str]) -> Tensor:
    """Probability [B] that text i describes image i."""
    return model.itm_logits(_fuse_pairs(model, images, texts)).softmax(1)[:, 1]


@torch.inference_mode()
def locate(model: X2VLM, images: Sequence[Any], texts: Sequence[str]) -> Tensor:
    """Box [B, 4] of text i in image i, cxcywh in [0, 1]."""
    return model.predict_bbox(_fuse_pairs(model, images, texts))


def _fuse_pairs(model: X2VLM, images: Sequence[Any], texts: Sequence[str]) -> Tensor:
    features = model.encode_images(model.read(images))
    ids, mask = model.tokenize(texts)
    context = image_context(features, torch.arange(len(images)))
    return model.fuse(model.encode_texts(ids, mask), mask, context)
