"""Settings of the vision encoders. Imports neither torch nor timm."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field

from x2kit.plugin import ImageSpec, NameOrPath, SettingError, Shapes, VisionEncoderConfig, VisionFacts
from x2kit.plugin.toolkit.official_keys import count
from x2kit_timm.weights import published_file, published_image

if TYPE_CHECKING:
    from x2kit.plugin import VisionEncoder

PRETRAINED = "timm model name with weights tag, or a local .safetensors, .pth or directory; null for none"
DROP_PATH = "stochastic depth of the last block; grows linearly up to it"


class TimmViT(VisionEncoderConfig):
    """A vision transformer of timm, with patches or a convolutional stem in front.

    Good for small models from scratch, whose every size is a setting, and with a convolutional stem learns early.
    `architecture` chooses what timm's blocks look like (registers, SwiGLU, normalised queries, ...). The
    sizes are always those of the settings, so they are known without timm; pretrained weights must have them.
    """

    architecture: str = Field("vit_base_patch16_224", description="timm model whose kind of blocks is used")
    image_size: int = Field(224, gt=0, description="side of the image in pixels")
    patch_size: int = Field(16, gt=0, description="side of a patch in pixels")
    width: int = Field(768, gt=0, description="width D")
    depth: int = Field(12, ge=1, description="blocks")
    heads: int = Field(12, ge=1, description="attention heads")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the feed-forward part over D")
    drop_path: float = Field(0.0, ge=0, lt=1, description=DROP_PATH)
    class_token: bool = Field(True, description="a class token takes part in attention")
    summary: Literal["mean", "cls"] = Field(
        "mean", description="position 0 of the output: mean of the normalised patches, or the class token"
    )
    stem: Literal["patch", "conv"] = Field(
        "patch",
        description="patch: one linear projection; conv: 3×3 convolutions of stride 2 to the same grid, each with "
        "norm and ReLU, then one of 1×1",
    )
    stem_norm: Literal["group", "batch"] = Field(
        "group",
        description="norm after the stem's convolutions; batch mixes a batch's images in training",
    )
    position_scale: float = Field(
        0.0, ge=0, description="initial position embedding: a 2-D sinusoid times this; 0 is timm's random one"
    )
    pretrained: NameOrPath | None = Field(None, description=PRETRAINED)

    def describe(self) -> VisionFacts:
        side = grid_side(self.image_size, self.patch_size)
        require_divisor(self.heads, self.width)
        if self.summary == "cls" and not self.class_token:
            raise SettingError("summary", '"cls" needs class_token: true; without a class token use "mean"')
        if self.position_scale:
            if self.width % 4:
                raise SettingError("width", f"{self.width} is no multiple of 4; position_scale needs one")
            if self.pretrained is not None:
                raise SettingError("position_scale", "pretrained weights bring their own positions; use 0")
        if self.stem == "conv":
            self._check_conv_stem()
        if self.pretrained is None:
            return VisionFacts(ImageSpec(self.image_size), self.width, (side, side))
        published_file(self.pretrained)
        return VisionFacts(
            published_image(self.pretrained, ImageSpec(self.image_size)), self.width, (side, side)
        )

    def _check_conv_stem(self) -> None:
        steps = self.patch_size.bit_length() - 1
        if self.patch_size < 2 or self.patch_size != 2**steps:
            raise SettingError("patch_size", f"{self.patch_size}; a conv stem halves, so use a power of two")
        if self.width % 2 ** (steps - 1):
            raise SettingError(
                "width", f"{self.width} cannot be halved {steps - 1} times, as the conv stem does"
            )
        if self.pretrained is not None:
            raise SettingError("stem", "published weights have a patch stem; leave out stem or pretrained")

    def build(self, assets: Path | None = None) -> VisionEncoder:
        from x2kit_timm.vit import TimmViTEncoder

        return TimmViTEncoder(self, assets)


class BeitV2(VisionEncoderConfig):
    """BEiT-v2 as in X²-VLM: a table of relative positions in each block; position 0 is the patches' mean.

    The choice wherever a checkpoint of X²-VLM or CCLM is continued, or a result of theirs repeated. Images are
    normalised with CLIP's statistics, as in the paper.
    """

    image_size: int = Field(224, gt=0, description="side of the image in pixels")
    patch_size: int = Field(16, gt=0, description="side of a patch in pixels")
    width: int = Field(768, gt=0, description="width D")
    depth: int = Field(12, ge=1, description="blocks")
    heads: int = Field(12, ge=1, description="attention heads")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the feed-forward part over D")
    init_values: float = Field(0.1, gt=0, description="initial layer scale")
    drop_path: float = Field(0.1, ge=0, lt=1, description=DROP_PATH)
    pretrained: NameOrPath | None = Field(None, description=PRETRAINED)

    def describe(self) -> VisionFacts:
        side = grid_side(self.image_size, self.patch_size)
        require_divisor(self.heads, self.width)
        if self.pretrained is not None:
            published_file(self.pretrained)
        return VisionFacts(ImageSpec(self.image_size), self.width, (side, side))

    @classmethod
    def from_official(cls, shapes: Shapes) -> Self | None:
        patch = shapes.get("patch_embed.proj.weight")
        table = shapes.get("blocks.0.attn.relative_position_bias_table")
        inner = shapes.get("blocks.0.mlp.fc1.weight")
        if not (patch and table and inner and "blocks.0.gamma_1" in shapes):
            return None
        window = (math.isqrt(table[0] - 3) + 1) // 2  # three rows are about the class token
        return cls(
            image_size=window * patch[2],
            patch_size=patch[2],
            width=patch[0],
            depth=count(shapes, "blocks.{n}."),
            heads=table[1],
            mlp_ratio=inner[0] / patch[0],
        )

    def build(self, assets: Path | None = None) -> VisionEncoder:
        from x2kit_timm.beit import BeitV2Encoder

        return BeitV2Encoder(self, load=assets is None)


class Swin(VisionEncoderConfig):
    """Swin transformer as in X-VLM: position 0 is the mean of the last stage's normalised tokens.

    The choice wherever a checkpoint of X-VLM is continued; stages make large images cheap. Every stage after the
    first halves the grid and doubles the width. Images are normalised with CLIP's statistics, as in the paper.
    """

    image_size: int = Field(224, gt=0, description="side of the image in pixels")
    patch_size: int = Field(4, gt=0, description="side of a patch of the first stage in pixels")
    width: int = Field(
        128, gt=0, description="width of the first stage; D is twice that for each later stage"
    )
    depths: tuple[int, ...] = Field((2, 2, 18, 2), min_length=1, description="blocks of each stage")
    heads: tuple[int, ...] = Field((4, 8, 16, 32), min_length=1, description="attention heads of each stage")
    window: int = Field(7, gt=0, description="side of an attention window in tokens")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the feed-forward part over the stage's width")
    drop_path: float = Field(0.1, ge=0, lt=1, description=DROP_PATH)
    pretrained: NameOrPath | None = Field(None, description=PRETRAINED)

    def describe(self) -> VisionFacts:
        if len(self.depths) != len(self.heads):
            raise SettingError("heads", f"{len(self.heads)} stages, but depths has {len(self.depths)}")
        stages = len(self.depths)
        for stage, heads in enumerate(self.heads):
            require_divisor(heads, self.width * 2**stage)
        side = grid_side(self.image_size, self.patch_size * 2 ** (stages - 1))
        if self.pretrained is not None:
            published_file(self.pretrained)
        return VisionFacts(ImageSpec(self.image_size), self.width * 2 ** (stages - 1), (side, side))

    @classmethod
    def from_official(cls, shapes: Shapes) -> Self | None:
        patch = shapes.get("patch_embed.proj.weight")
        table = shapes.get("layers.0.blocks.0.attn.relative_position_bias_table")
        inner = shapes.get("layers.0.blocks.0.mlp.fc1.weight")
        if not (patch and table and inner):
            return None
        stages = range(count(shapes, "layers.{n}."))
        window = (math.isqrt(table[0]) + 1) // 2
        return cls(
            image_size=patch[2] * 2 ** (len(stages) - 1) * window,  # the last stage is one window
            patch_size=patch[2],
            width=patch[0],
            depths=tuple(count(shapes, f"layers.{stage}.blocks.{{n}}.") for stage in stages),
            heads=tuple(
                shapes[f"layers.{stage}.blocks.0.attn.relative_position_bias_table"][1] for stage in stages
            ),
            window=window,
            mlp_ratio=inner[0] / patch[0],
        )

    def at_image_size(self, image_size: int) -> Self:
        """The window grows with the image, so that the last stage stays one window (X-VLM: 12 at 384)."""
        before, after = self.describe().grid[0], image_size // (self.image_size // self.describe().grid[0])
        window = self.window * after // before
        return self.model_validate({**self.model_dump(), "image_size": image_size, "window": window})

    def build(self, assets: Path | None = None) -> VisionEncoder:
        from x2kit_timm.swin import SwinEncoder

        return SwinEncoder(self, load=assets is None)


def grid_side(image_size: int, patch_size: int) -> int:
    """Patches a side. Raises SettingError if patches of this many pixels do not tile the image."""
    if image_size % patch_size:
        raise SettingError("image_size", f"{image_size} pixels are not tiled by {patch_size}; use a multiple")
    return image_size // patch_size


def require_divisor(heads: int, width: int) -> None:
    """Raise SettingError unless `heads` divides `width`."""
    if heads < 1 or width % heads:
        raise SettingError("heads", f"{heads} heads do not divide the width {width}; choose a divisor")
