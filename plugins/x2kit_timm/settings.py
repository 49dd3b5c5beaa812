"""Settings of the vision encoders. Imports neither torch nor timm."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from x2kit.plugin import NameOrPath, SettingError, VisionEncoderConfig, VisionFacts
from x2kit_timm.published import published_image

if TYPE_CHECKING:
    from x2kit.plugin import VisionEncoder


class TimmViT(VisionEncoderConfig):
    """A vision transformer of timm, pretrained or from scratch, with patches or a convolutional stem in front.

    `architecture` chooses what timm's blocks look like (registers, SwiGLU, normalised queries and keys, ...); the
    sizes are always those of the settings, so that they are known without timm.
    """

    architecture: str = Field("vit_base_patch16_224", description="timm model whose kind of blocks is used")
    image_size: int = Field(224, gt=0, description="side of the picture in pixels")
    patch_size: int = Field(16, gt=0, description="side of a patch in pixels")
    width: int = Field(768, gt=0, description="width D")
    depth: int = Field(12, ge=1, description="blocks")
    heads: int = Field(12, ge=1, description="attention heads")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the feed-forward part over D")
    drop_path: float = Field(
        0.0, ge=0, lt=1, description="stochastic depth of the last block; grows linearly to it"
    )
    class_token: bool = Field(True, description="a class token takes part in attention")
    summary: Literal["mean", "cls"] = Field(
        "mean", description="position 0 of the output: mean of the normalised patches, or the class token"
    )
    stem: Literal["patch", "conv"] = Field(
        "patch",
        description="patch: one linear projection; conv: 3×3 convolutions of stride 2 down to the same grid",
    )
    stem_norm: Literal["group", "batch"] = Field(
        "group",
        description="norm between the stem's convolutions; batch mixes the pictures of a batch in training",
    )
    position_scale: float = Field(
        0.0, ge=0, description="initial position embedding: a 2-D sinusoid times this; 0 is timm's random one"
    )
    pretrained: NameOrPath | None = Field(
        None,
        description="timm model name with weights tag, or a local .safetensors, .pth or directory; null: none",
    )

    def describe(self) -> VisionFacts:
        rows = grid_side(self.image_size, self.patch_size)
        require_divisor("heads", self.heads, self.width)
        if self.summary == "cls" and not self.class_token:
            raise SettingError("summary", '"cls" needs class_token: true; use "mean" without a class token')
        if self.position_scale and self.width % 4:
            raise SettingError(
                "width", f"{self.width} is no multiple of 4, which a 2-D sinusoid (position_scale) needs"
            )
        if self.stem == "conv":
            if self.patch_size < 2 or self.patch_size & (self.patch_size - 1):
                raise SettingError(
                    "patch_size", f"{self.patch_size}; a conv stem halves, so it is a power of two"
                )
            if self.pretrained is not None:
                raise SettingError(
                    "stem", "published weights have a patch stem; leave out stem or pretrained"
                )
            if self.width % 2 ** (self.patch_size.bit_length() - 2):
                raise SettingError("width", f"{self.width} cannot be halved for each step of the conv stem")
        return VisionFacts(published_image(self.pretrained, self.image_size), self.width, (rows, rows))

    def build(self, assets: Path | None = None) -> VisionEncoder:
        from x2kit_timm.vit import TimmViTEncoder

        return TimmViTEncoder(self, assets)


def grid_side(image_size: int, patch_size: int) -> int:
    """Patches a side. Raises SettingError if patches do not tile the picture."""
    if image_size % patch_size:
        raise SettingError(
            "patch_size", f"patches of {patch_size} do not tile {image_size} pixels; choose a divisor"
        )
    return image_size // patch_size


def require_divisor(setting: str, heads: int, width: int) -> None:
    """Raise SettingError unless `heads` divides `width`."""
    if width % heads:
        raise SettingError(setting, f"{heads} heads do not divide the width {width}; choose a divisor")
