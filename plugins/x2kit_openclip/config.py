"""Settings of the vision towers of open_clip. Imports neither torch nor open_clip."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from x2kit.plugin import (
    ComponentConfig,
    ImageSpec,
    NameOrPath,
    SettingError,
    Shapes,
    VisionEncoderConfig,
    VisionFacts,
)
from x2kit.plugin.toolkit import count, pretrained_file, pretrained_weights, read_json, usual_heads

if TYPE_CHECKING:
    from x2kit.plugin import VisionEncoder

CONFIG = "open_clip_config.json"
FILENAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


class ClipVision(VisionEncoderConfig):
    """The vision tower of a CLIP model of open_clip; position 0 is its class token.

    Use it to continue a checkpoint of X-VLM with CLIP; OpenClipVision takes the other towers by name. All tokens go
    through the final norm, without the projection to CLIP's common space (X-VLM).
    """

    official_end_token: ClassVar[bool] = False

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
                "image_size", f"{self.image_size} pixels are not a multiple of {self.patch_size}"
            )
        if self.width % self.heads:
            raise SettingError(
                "heads", f"{self.heads} heads do not divide the width {self.width}; use a divisor"
            )
        side = self.image_size // self.patch_size
        image = ImageSpec(self.image_size)
        if self.pretrained is not None:
            self.weights()
            file = pretrained_file("pretrained", self.pretrained, CONFIG)
            if file is not None:
                image = self._checked_image(read_json("pretrained", file), image)
        return VisionFacts(image, self.width, (side, side))

    def weights(self) -> Path:
        """Locate the file of pretrained weights. Raises SettingError if there is none."""
        return _weights(self.pretrained)

    def _checked_image(self, published: dict[str, Any], image: ImageSpec) -> ImageSpec:
        """Compare the settings with open_clip's config, and read the image statistics from it."""
        model: dict[str, Any] = published.get("model_cfg", {})
        vision: dict[str, Any] = model.get("vision_cfg", {})
        wanted = {"patch_size": self.patch_size, "width": self.width, "layers": self.layers}
        for setting, value in wanted.items():
            if vision.get(setting, value) != value:
                raise SettingError(setting, f"{value}, but {self.pretrained} has {vision[setting]}")
        if model.get("quick_gelu", False) != self.quick_gelu:
            raise SettingError("quick_gelu", f"{self.pretrained} was trained with {not self.quick_gelu}")
        return with_statistics(image, published)

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
        from x2kit_openclip.encoder import ClipVisionEncoder

        return ClipVisionEncoder(self, assets)


def with_statistics(image: ImageSpec, published: dict[str, Any]) -> ImageSpec:
    """Replace mean, standard deviation and interpolation by those of an open_clip_config.json, if present."""
    found: dict[str, Any] = published.get("preprocess_cfg", {})
    return image._replace(
        mean=tuple(found.get("mean", image.mean)),
        std=tuple(found.get("std", image.std)),
        interpolation=found.get("interpolation", image.interpolation),
    )


class OpenClipVision(VisionEncoderConfig):
    """The vision tower of any open_clip model with separate patch tokens: CLIP, SigLIP, SigLIP 2, EVA-02-CLIP.

    These are trained on hundreds of millions of image-text pairs, so retrieval is good after few steps; matching and
    boxes take longer. Position 0 is the patches' mean, or the class token if there is one. The projection to CLIP's
    common space and attention pooling are not used. The sizes come from open_clip, which is imported when the recipe
    is resolved; this takes some seconds.
    """

    tower: str | None = Field(
        None,
        description="name of the model in open_clip: ViT-B-16-SigLIP2; null to read it from the open_clip_config.json "
        "of the pretrained weights",
    )
    image_size: int | None = Field(
        None, gt=0, description="side of the image in pixels; null for the model's own"
    )
    summary: Literal["mean", "cls"] = Field(
        "mean", description="position 0 of the output: mean of the normalised patches, or the class token"
    )
    vision: dict[str, Any] = Field(
        default_factory=dict,
        description="keys that override those of the model's vision_cfg in open_clip: {layers: 6, width: 384}",
    )
    pretrained: NameOrPath | None = Field(
        None,
        description="open_clip model on the Hugging Face hub, or a local file or directory; null for none",
    )

    def reads_weights_of(self, other: ComponentConfig) -> bool:
        """Whether both are the same encoder and, where both name one, the same open_clip model."""
        known = getattr(other, "tower", None)
        return super().reads_weights_of(other) and (self.tower is None or known in (None, self.tower))

    def published(self) -> dict[str, Any]:
        """Read the open_clip_config.json of the pretrained weights; empty if there is none."""
        if self.pretrained is None:
            return {}
        self.weights()
        file = pretrained_file("pretrained", self.pretrained, CONFIG)
        return {} if file is None else read_json("pretrained", file)

    def weights(self) -> Path:
        """Locate the file of pretrained weights. Raises SettingError if there is none."""
        return _weights(self.pretrained)

    def image_spec(self, size: int) -> ImageSpec:
        """Return the image specification, with the published statistics if there are any."""
        return with_statistics(ImageSpec(size), self.published())

    def describe(self) -> VisionFacts:
        from x2kit_openclip.encoder import describe, tower_settings

        return describe(self, tower_settings(self))

    def build(self, assets: Path | None = None) -> VisionEncoder:
        from x2kit_openclip.encoder import OpenClipEncoder

        return OpenClipEncoder(self, assets)


def _weights(pretrained: str | None) -> Path:
    if pretrained is None:
        raise SettingError("pretrained", "required to load weights")
    return pretrained_weights("pretrained", pretrained, FILENAMES)
