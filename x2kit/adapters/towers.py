"""The two towers of a model as a module in the form of open_clip's CLIP. Imports torch.

B rows, L tokens, C channels, S side of an image, E embedding width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from x2kit.errors import ShapeError
from x2kit.inference.model import Model
from x2kit.model.device import autocast


class Features(NamedTuple):
    """Result of `Towers.forward`, in the order of open_clip.

    Attributes:
        image_features: [B, E] unit vectors; None without images.
        text_features: [B, E] unit vectors; None without texts.
        logit_scale: factor of the cosines.
    """

    image_features: Tensor | None
    text_features: Tensor | None
    logit_scale: Tensor


class ImageTower(nn.Module):
    """Vision encoder and projection.

    Attributes:
        image_size: S.
        image_mean, image_std: of each channel, by which images are normalised.
        preprocess_cfg: these and the resizing, as open_clip's `PreprocessCfg` names them.
        output_dim: E.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        spec = model.module.image_spec
        self.encoder, self.proj = model.module.vision, model.module.vision_proj
        self.output_dim = model.dim
        self.image_size, self.image_mean, self.image_std = spec.size, spec.mean, spec.std
        self.preprocess_cfg = {
            "size": spec.size,
            "mean": spec.mean,
            "std": spec.std,
            "interpolation": spec.interpolation,
            "resize_mode": "squash",
        }

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images [B, C, S, S] of any float type to [B, E] float32, not of unit length."""
        if images.ndim != 4:
            raise ShapeError(
                f"images: expected [B, C, S, S], found {list(images.shape)}; one image needs [None], and videos are "
                "not supported by this adapter"
            )
        features: Tensor = self.proj(self.encoder(images.to(self.proj.weight.dtype)).summary)
        return features.float()


class TextTower(nn.Module):
    """Text encoder and projection.

    Attributes:
        context_length: maximum of L.
        vocab_size: number of token ids.
        output_dim: E.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        module = model.module
        self.encoder, self.proj = module.text, module.text_proj
        self.output_dim, self.context_length = model.dim, module.max_length
        self.vocab_size, self._pad = module.tokenizer.vocab_size, module.tokenizer.special.pad

    def forward(self, ids: Tensor) -> Tensor:
        """Encode padded token ids [B, L] to [B, E] float32, not of unit length.

        Raises: ShapeError for ids of another shape, longer texts than the model takes, or a row of padding only.
        """
        if ids.ndim != 2 or ids.shape[1] > self.context_length:
            raise ShapeError(
                f"text: expected ids [B, L] with at most {self.context_length} tokens, found {list(ids.shape)}"
            )
        if not len(ids):
            return self.proj.weight.new_zeros(0, self.output_dim).float()
        mask = ids != self._pad
        fewest, most = torch.stack(mask.sum(1).aminmax()).tolist()
        if fewest == 0:
            raise ShapeError("text: a row has only padding; the tokenizer gives at least the first token")
        # No text needs the columns that pad all rows; computing them costs more than the texts.
        features: Tensor = self.proj(self.encoder(ids[:, :most], mask[:, :most])[:, 0])
        return features.float()


class Towers(nn.Module):
    """Image and text tower, for code written for open_clip's models; shares the parameters of the model.

    Attributes:
        visual, text: the towers.
        logit_bias: None; open_clip has one in models trained with the sigmoid loss.
        output_dict: whether `forward` returns a dict in place of a tuple.

    Args:
        model: with a contrastive head.
    """

    logit_bias: None = None

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.visual, self.text = ImageTower(model), TextTower(model)
        self.temperature = model.module.temperature
        self.output_dict = False
        self._precision = model.precision

    @property
    def logit_scale(self) -> Tensor:
        """Natural logarithm of the factor of the cosines, which is 1 / temperature."""
        return -self.temperature.float().log()

    @property
    def context_length(self) -> int:
        """Maximum number of tokens of a text."""
        return self.text.context_length

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.text.vocab_size

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Encode images [B, C, S, S] from `preprocess` to [B, E] float32, of unit length if `normalize`."""
        with self._computing():
            features: Tensor = self.visual(image)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Encode token ids [B, L] from the tokenizer to [B, E] float32, of unit length if `normalize`."""
        with self._computing():
            features: Tensor = self.text(text)
        return F.normalize(features, dim=-1) if normalize else features

    def get_logits(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the scaled cosines of all images with all texts, and the same transposed."""
        images, texts = self.encode_image(image, normalize=True), self.encode_text(text, normalize=True)
        logits = self.logit_scale.exp() * images @ texts.T
        return logits, logits.T

    def forward(self, image: Tensor | None = None, text: Tensor | None = None) -> Features | dict[str, Any]:
        """Encode images, texts or both; see `Features`."""
        found = Features(
            None if image is None else self.encode_image(image, normalize=True),
            None if text is None else self.encode_text(text, normalize=True),
            self.logit_scale.exp(),
        )
        return found._asdict() if self.output_dict else found

    @contextmanager
    def _computing(self) -> Iterator[None]:
        with autocast(self.temperature.device, self._precision):
            yield
