"""Normalise arguments of X2VLM's public methods to lists of images or texts. Imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from x2kit.errors import DataError, Reason

ImageInput: TypeAlias = Any
"""A path, a URL, the bytes of an encoded image, a PIL image, an array, or a tensor; see `image_list`."""

_ONE_IMAGE = (str, Path, bytes, bytearray, memoryview, Image.Image)


def text_list(texts: str | Iterable[str]) -> list[str]:
    """Turn one text or several into a list. Raises DataError for anything that is not a string."""
    found = list(_several(texts, (str,), "text"))
    for place, text in enumerate(found):
        if not isinstance(text, str):
            raise DataError(
                f"texts[{place}]: expected a str, found {type(text).__name__}", reason=Reason.FIELD_TYPE
            )
    return [str(text) for text in found]


def pad_ids(encoded: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pad token ids to the longest: ids [B, L] int64 and mask [B, L] bool."""
    lengths = torch.tensor([len(ids) for ids in encoded], dtype=torch.int64)
    mask = torch.arange(int(lengths.max()) if len(encoded) else 0) < lengths[:, None]
    ids = torch.full(mask.shape, pad, dtype=torch.int64)
    ids[mask] = torch.tensor([id_ for row in encoded for id_ in row], dtype=torch.int64)
    return ids.to(device), mask.to(device)


def image_list(images: ImageInput | Iterable[ImageInput]) -> list[ImageInput]:
    """Turn one image or several into a list; see `each_image`."""
    return list(each_image(images))


def each_image(images: ImageInput | Iterable[ImageInput]) -> Iterable[ImageInput]:
    """Iterate over one image or several as inputs of `x2kit.data.media.images`, without making a list.

    Arrays and tensors of two or three axes are one image, of four axes a batch. Float tensors for an encoder of 8-bit
    images are in [0, 1], as from torchvision's `to_tensor`, and not normalised.

    Raises: DataError if it is neither an image nor an iterable.
    """
    if isinstance(images, np.ndarray | Tensor) and images.ndim in (2, 3):
        return [images]
    return _several(images, _ONE_IMAGE, "image")


def eight_bits(image: ImageInput, wanted: bool) -> ImageInput:
    """Convert a tensor to an array, and a float tensor in [0, 1] to 8 bits if `wanted`; return other inputs unchanged.

    Raises: DataError for a float tensor outside [0, 1], for example one that is already normalised.
    """
    if not isinstance(image, Tensor):
        return image
    image = image.detach().cpu()
    if not (wanted and image.is_floating_point()):
        return image.float().numpy() if image.dtype is torch.bfloat16 else image.numpy()
    low, high = (float(value) for value in image.aminmax()) if image.numel() else (0.0, 0.0)
    if not (low >= 0 and high <= 1):  # NaN fails both
        raise DataError(
            f"expected a float image tensor in [0, 1], found {low:.3g} to {high:.3g}; pass the image before "
            "normalisation, or 8 bits as torch.uint8",
            reason=Reason.FIELD_TYPE,
        )
    return (image * 255).round().to(torch.uint8).numpy()


def _several(items: Any, one: tuple[type, ...], what: str) -> Iterable[Any]:
    if isinstance(items, one):
        return [items]
    if isinstance(items, Iterable) and not isinstance(items, Mapping | bytes | bytearray | memoryview):
        return items
    raise DataError(
        f"expected one {what} or a list of them, found {type(items).__name__}", reason=Reason.FIELD_TYPE
    )
