"""The programs of an export: image tower, text tower and matching pair, as modules to trace. Imports torch.

B rows, C channels, S side of the image, N patches, D width, E common width, L text tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from x2kit.errors import HeadError
from x2kit.model.x2vlm import X2VLM, image_context
from x2kit.plugin.encoders import Encoder, VisionFeatures

BATCH, LENGTH = "batch", "length"
"""Names of the axes that stay free."""
Outputs = tuple[Tensor, ...]


def _only(model: X2VLM, *parts: str) -> X2VLM:
    """Return a model that shares these parts and has no others, which a trace would store too."""
    small = copy.copy(model)
    small._modules = {name: each for name, each in model._modules.items() if name in parts}
    small._parameters = {}
    return small


class ImageTower(nn.Module):
    """Images to unit vectors, and to the tokens that the pair reads: the summary followed by the patches.

    Args:
        model: in evaluation mode.
        tokens: also return the tokens.
    """

    def __init__(self, model: X2VLM, tokens: bool) -> None:
        super().__init__()
        self.model, self.tokens = _only(model, "vision", "vision_proj"), tokens

    def forward(self, images: Tensor) -> Outputs:
        """Encode images [B, C, S, S] in [0, 1]: image_vector [B, E], image_tokens [B, 1 + N, D]."""
        features = self.model.encode_images(images)
        found = (self.model.project_images(features.summary),) if hasattr(self.model, "vision_proj") else ()
        tokens = torch.cat([features.summary[:, None], features.patches], 1)
        return (*found, tokens) if self.tokens else found


class TextTower(nn.Module):
    """Texts to unit vectors, and to the tokens that the pair reads; arguments as `ImageTower`."""

    def __init__(self, model: X2VLM, tokens: bool) -> None:
        super().__init__()
        self.model, self.tokens = _only(model, "text", "text_proj"), tokens

    def forward(self, ids: Tensor, mask: Tensor) -> Outputs:
        """Encode ids [B, L] int64 with their mask [B, L] bool: text_vector [B, E], text_tokens [B, L, D]."""
        tokens = self.model.encode_texts(ids, mask)
        found = (self.model.project_texts(tokens),) if hasattr(self.model, "text_proj") else ()
        return (*found, tokens) if self.tokens else found


class MatchingPair(nn.Module):
    """Pairs of an image and a text to the probability of a match, and to the box of the text in the image."""

    def __init__(self, model: X2VLM) -> None:
        super().__init__()
        self.model = _only(model, "fusion", "itm_head", "bbox_head")
        self.grid = model.vision.grid

    def forward(self, image_tokens: Tensor, text_tokens: Tensor, mask: Tensor) -> Outputs:
        """Fuse each text with the image of its row; the arguments are outputs of the towers.

        Args:
            image_tokens: [B, 1 + N, D].
            text_tokens: [B, L, D].
            mask: [B, L] bool, of the text.
        Returns: probability [B], box [B, 4] cxcywh in [0, 1].
        """
        rows = torch.arange(image_tokens.shape[0], device=image_tokens.device)
        features = VisionFeatures(image_tokens[:, 0], image_tokens[:, 1:], self.grid)
        context = self.model.prepare_images(features)._replace(rows=rows)
        fused = self.model.fuse(text_tokens, mask, context, summary_rows=text_tokens.shape[0])
        return _heads(self.model, fused)


def _heads(model: X2VLM, fused: Tensor) -> Outputs:
    matched = (model.itm_logits(fused).softmax(1)[:, 1],) if hasattr(model, "itm_head") else ()
    return (*matched, model.predict_bbox(fused)) if hasattr(model, "bbox_head") else matched


@dataclass(frozen=True)
class Axes:
    """One input or output of a program.

    Attributes:
        dtype: float32, int64 or bool.
        shape: numbers, and `BATCH` or `LENGTH` for a free axis.
    """

    dtype: str
    shape: tuple[str | int, ...]


@dataclass(frozen=True)
class Program:
    """One program of an export.

    Attributes:
        name: image, text or pair; the file has it too.
        module: to trace.
        inputs: by name, in order.
        outputs: by name, in order.
        eager: computes the outputs as x2kit itself does; the exported file is compared with it.
        part: the encoder that it is made of, by its key in `model`, for errors.
        encoder: that one.
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Axes]
    outputs: Mapping[str, Axes]
    eager: Callable[..., Outputs]
    part: str
    encoder: Encoder


def programs_of(model: X2VLM) -> tuple[list[Program], dict[str, str]]:
    """List the programs of a model, and say what is left out.

    Returns: programs; reasons by the name of a program or of an output.
    Raises: HeadError for a model with none of the heads.
    """
    has_vector, has_match, has_box = (
        hasattr(model, head) for head in ("vision_proj", "itm_head", "bbox_head")
    )
    has_pair = has_match or has_box
    if not has_vector and not has_pair:
        raise HeadError(
            "this model has none of the heads that are exported (model.heads.built): itc for vectors of images and "
            "texts, itm for the probability of a match, bbox for boxes"
        )
    left_out = {
        name: f"the model has no {head}"
        for name, head, there in (
            ("image_vector, text_vector", "contrastive head (itc)", has_vector),
            ("probability", "matching head (itm)", has_match),
            ("box", "box head (bbox)", has_box),
        )
        if not there
    }
    if not has_pair:
        left_out["pair"] = "it needs a matching head (itm) or a box head (bbox)"
    if model.frames is not None:
        left_out["videos"] = "the programs read single images; frame positions are not exported"
    towers = [_image_tower(model, has_pair), _text_tower(model, has_pair)]
    return [*towers, *([_pair(model)] if has_pair else [])], left_out


def _unit(model: X2VLM) -> Axes:
    return Axes("float32", (BATCH, int(model.vision_proj.out_features)))


def _image_tokens(model: X2VLM) -> Axes:
    rows, columns = model.vision.grid
    return Axes("float32", (BATCH, 1 + rows * columns, model.vision.width))


def _text_tokens(model: X2VLM) -> Axes:
    return Axes("float32", (BATCH, LENGTH, model.text.width))


def _image_tower(model: X2VLM, tokens: bool) -> Program:
    spec = model.image_spec
    tower = ImageTower(model, tokens).eval()
    outputs = {"image_vector": _unit(model)} if hasattr(model, "vision_proj") else {}
    return Program(
        "image",
        tower,
        {"images": Axes("float32", (BATCH, spec.channels, spec.size, spec.size))},
        {**outputs, **({"image_tokens": _image_tokens(model)} if tokens else {})},
        tower,
        "vision",
        model.vision,
    )


def _text_tower(model: X2VLM, tokens: bool) -> Program:
    tower = TextTower(model, tokens).eval()
    outputs = {"text_vector": _unit(model)} if hasattr(model, "text_proj") else {}
    return Program(
        "text",
        tower,
        {"ids": Axes("int64", (BATCH, LENGTH)), "mask": Axes("bool", (BATCH, LENGTH))},
        {**outputs, **({"text_tokens": _text_tokens(model)} if tokens else {})},
        tower,
        "text",
        model.text,
    )


def _pair(model: X2VLM) -> Program:
    def eager(image_tokens: Tensor, text_tokens: Tensor, mask: Tensor) -> Outputs:
        features = VisionFeatures(image_tokens[:, 0], image_tokens[:, 1:], model.vision.grid)
        context = image_context(features, torch.arange(len(image_tokens)))
        return _heads(model, model.fuse(text_tokens, mask, context))

    outputs = {
        name: axes
        for name, axes, head in (
            ("probability", Axes("float32", (BATCH,)), "itm_head"),
            ("box", Axes("float32", (BATCH, 4)), "bbox_head"),
        )
        if hasattr(model, head)
    }
    inputs = {
        "image_tokens": _image_tokens(model),
        "text_tokens": _text_tokens(model),
        "mask": Axes("bool", (BATCH, LENGTH)),
    }
    return Program("pair", MatchingPair(model).eval(), inputs, outputs, eager, "fusion", model.fusion)
