"""Settings of the vision tower. Imports neither torch nor open_clip."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from x2kit.plugin import ImageSpec, NameOrPath, SettingError, Shapes, VisionEncoderConfig, VisionFacts
from x2kit.plugin.toolkit.official_keys import count, usual_heads
from x2kit.plugin.toolkit.pretrained import pretrained_file, pretrained_weights, read_json

if TYPE_CHECKING:
    from x2kit.plugin import VisionEncoder

CONFIG = "open_clip_config.json"
FILENAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class ClipVision(VisionEncoderConfig):
    """The vision tower of a CLIP model of open_clip; position 0 is its class token.

    The choice wherever a checkpoint of X-VLM with CLIP is continued; OpenClipVision takes the other towers by name.
    All tokens go through the final norm, and the projection to CLIP's common space is left out (X-VLM).
    """

    image_size: int = Field(224, gt=0, description="side of the image in pixels")
    patch_size: int = Field(16, gt=0, description="side of a patch in pixels")
    width: int = Field(768, gt=0, description="width D")
    layers: int = Field(12, ge=1, description="layers")
    heads: int = Field(12, ge=1, description="attention heads")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the feed-forward part over D")
    quick_gelu: bool = Field(False, description="OpenAI's approximation of GELU; its own weights need it")
    pretrained: NameOrPath | None = Field(
        None,
        description="open_clip model on the Hugging Face hub, or a local file or directory; null for none",
    )

    def describe(self) -> VisionFacts:
        if self.image_size % self.patch_size:
            raise SettingError(
                "image_size", f"{self.image_size} pixels are not tiled by {self.patch_size}; use a multiple"
            )
        if self.width % self.heads:
            raise SettingError(
                "heads", f"{self.heads} heads do not divide the width {self.width}; choose a divisor"
            )
        side = self.image_size // self.patch_size
        image = ImageSpec(self.image_size)
        if self.pretrained is not None:
            self.weights()
            file = pretrained_file("pretrained", self.pretrained, CONFIG)
            if file is not None:
                image = self._agree(read_json("pretrained", file), image)
        return VisionFacts(image, self.width, (side, side))

    def weights(self) -> Path:
        """The file of pretrained weights. Raises SettingError if there is none."""
        if self.pretrained is None:
            raise SettingError("pretrained", "no weights are named")
        return pretrained_weights("pretrained", self.pretrained, FILENAMES)

    def _agree(self, published: dict[str, Any], image: ImageSpec) -> ImageSpec:
        """Compare the settings with open_clip's own file, and take the image's statistics from it."""
        model: dict[str, Any] = published.get("model_cfg", {})
        vision: dict[str, Any] = model.get("vision_cfg", {})
        wanted = {"patch_size": self.patch_size, "width": self.width, "layers": self.layers}
        for setting, value in wanted.items():
            if vision.get(setting, value) != value:
                raise SettingError(setting, f"{value}, but {self.pretrained} has {vision[setting]}")
        if model.get("quick_gelu", False) != self.quick_gelu:
            raise SettingError("quick_gelu", f"{self.pretrained} was trained with {not self.quick_gelu}")
        images: dict[str, Any] = published.get("preprocess_cfg", {})
        return image._replace(
            mean=tuple(images.get("mean", image.mean)),
            std=tuple(images.get("std", image.std)),
            interpolation=images.get("interpolation", image.interpolation),
        )

    @classmethod
    def from_official(cls, shapes: Shapes) -> Self | None:
        patch, positions = shapes.get("patch_embed.weight"), shapes.get("pos_embed.weight")
        inner = shapes.get("encoder.layers.0.mlp.fc1.weight")
        if not (patch and positions and inner and "class_embedding" in shapes):
            return None
        return cls(
            image_size=math.isqrt(positions[0] - 1) * patch[2],
            patch_size=patch[2],
            width=patch[0],
            layers=count(shapes, "encoder.layers.{n}."),
            heads=usual_heads(patch[0]),
            mlp_ratio=inner[0] / patch[0],
            quick_gelu=True,
        )

    def build(self, assets: Path | None = None) -> VisionEncoder:
        from x2kit_openclip.tower import ClipVisionEncoder

        return ClipVisionEncoder(self, assets)
