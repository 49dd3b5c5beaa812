"""Encode one image and texts about it, and score its regions. Imports torch.

T texts, L text tokens, D width, R regions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_convert

from x2kit.data.media.images import ImageLike
from x2kit.data.media.videos import first_frame
from x2kit.data.transforms.text import clean
from x2kit.evaluation.report.visible import visible
from x2kit.inference.inputs import is_video, stack_decoded
from x2kit.inference.results import Box
from x2kit.model.device import autocast
from x2kit.model.inputs import ImageInput, eight_bits, pad_ids
from x2kit.model.x2vlm import X2VLM, image_context
from x2kit.plugin import Context, ImageSpec, VisionFeatures
from x2kit.plugin.component_faults import component_faults

if TYPE_CHECKING:
    from x2kit.inference.model import Model


@dataclass(frozen=True)
class OneImage:
    """An encoded image or video, and encoded texts.

    Attributes:
        module: that encoded them.
        name: path, URL or "images[0]".
        size: (width, height) of the original in pixels.
        features: of the image.
        ids: [T, L] int64, the texts.
        mask: [T, L] bool.
        tokens: [T, L, D], the encoded texts.
    """

    module: X2VLM
    name: str
    size: tuple[int, int]
    features: VisionFeatures
    ids: Tensor
    mask: Tensor
    tokens: Tensor

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.features.grid

    def split(self, count: int) -> Iterator[OneImage]:
        """Yield the image with `count` texts at a time."""
        for start in range(0, len(self.ids), count):
            part = slice(start, start + count)
            yield replace(self, ids=self.ids[part], mask=self.mask[part], tokens=self.tokens[part])

    def context(self) -> Context:
        """Build the context of the whole image for each text."""
        return image_context(self.features, torch.zeros_like(self.ids[:, 0]))

    def seen(self, patches: Tensor) -> Context:
        """Build a context of some patches for each of R rows: their mean leads, the others are masked.

        Args:
            patches: [R, N] bool, at least one in each row.
        """
        rows = torch.zeros(len(patches), dtype=torch.int64, device=patches.device)
        with component_faults(self.module.vision.built_from):
            summary = self.module.vision.pool_regions(self.features, rows, patches)
        return Context(self.features.patches, rows, patches, summary[:, None])

    def boxes(self, corners: Tensor, texts: Tensor) -> list[Box]:
        """Score regions with the matching head; the probability is NaN for a model without one.

        Args:
            corners: [R, 4] x0, y0, x1, y1 as shares of the image's sides, inside it.
            texts: [R] int64, the text of each region.
        """
        if hasattr(self.module, "itm_head"):
            probabilities = self._matching(corners, texts).tolist()
        else:
            probabilities = [torch.nan] * len(corners)
        relative = box_convert(corners.double(), "xyxy", "xywh").cpu()
        pixels = relative * torch.tensor(self.size * 2)
        return [
            Box((*map(float, of_image),), (*map(float, share),), probability)  # type: ignore[arg-type]
            for of_image, share, probability in zip(
                pixels.tolist(), relative.tolist(), probabilities, strict=True
            )
        ]

    def _matching(self, corners: Tensor, texts: Tensor) -> Tensor:
        rows = torch.zeros(len(corners), dtype=torch.int64, device=self.ids.device)
        summary, patches = self.module.encode_regions(
            self.features, rows, box_convert(corners.float(), "xyxy", "cxcywh")
        )
        context = Context(self.features.patches, rows, patches, summary[:, None])
        fused = self.module.fuse(self.tokens[texts], self.mask[texts], context, summary_rows=len(texts))
        return self.module.itm_logits(fused).softmax(1)[:, 1]


class Picture(NamedTuple):
    """An input of a model, opened when it is drawn.

    Attributes:
        source: as it was given; a video is drawn as its first frame.
        spec: input of the vision encoder.
    """

    source: ImageInput
    spec: ImageSpec

    def open(self) -> Image.Image:
        """Decode the image as 8-bit RGB at its own size. Raises DataError if it is unreadable by now."""
        shown = self.source
        if is_video(shown):
            shown = first_frame(shown if isinstance(shown, str | Path) else list(shown))
        shown = eight_bits(shown, self.spec.value_range is None)
        loaded = ImageLike(shown, self.spec.channels, self.spec.value_range, upright=True).load()
        return visible(loaded, self.spec).convert("RGB")


@contextmanager
def computing(model: Model) -> Iterator[None]:
    """Compute in the model's precision, so that gradients with respect to attention can be asked for."""
    with torch.inference_mode(False), torch.no_grad(), autocast(model.device, model.precision):
        yield


def encode_one(model: Model, image: ImageInput, texts: Sequence[str]) -> OneImage:
    """Encode an image or video and T texts, T above 0; call it within `computing`.

    Raises: DataError for an unreadable image or a text that is empty after cleaning.
    """
    module = model.module
    name, shown = model.reader.read_one(image)
    pixels = stack_decoded([shown], module.device)
    features = module.encode_video(pixels) if pixels.ndim == 5 else module.encode_images(pixels)
    encoded = model.tokenize([clean(text) for text in texts])
    ids, mask = pad_ids(encoded, module.tokenizer.special.pad, module.device)
    return OneImage(module, name, shown.size, features, ids, mask, module.encode_texts(ids, mask))
