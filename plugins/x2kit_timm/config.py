"""Settings of the vision encoders of timm. Imports neither torch nor timm."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from x2kit.plugin import (
    ComponentConfig,
    ImageSpec,
    NameOrPath,
    Published,
    SettingError,
    Shapes,
    VisionEncoderConfig,
    VisionFacts,
)
from x2kit.plugin.toolkit import count
from x2kit_timm.loading import (
    IN_CHANNELS,
    NOT_PUBLISHED,
    TimmModel,
    published_file,
    published_image,
    published_origin,
    published_settings,
)

if TYPE_CHECKING:
    from x2kit.plugin import VisionEncoder

PRETRAINED = "timm model name with weights tag, or a local .safetensors, .pth or directory; null for none"
DROP_PATH = "stochastic depth of the last block; grows linearly up to it"


class FromTimm(VisionEncoderConfig):
    """Base of the encoders below, whose published weights are timm's."""

    def published(self) -> Published | None:
        """Describe the published weights; their licence is in timm's config.json."""
        return published_origin(getattr(self, "pretrained", None))


class TimmViT(FromTimm):
    """A vision transformer of timm with a patch or a convolutional stem.

    Suited to small models trained from scratch: every size is a setting, and a convolutional stem speeds up early
    training. `architecture` selects the kind of timm's blocks (registers, SwiGLU, normalised queries, ...). The
    sizes are those of the settings, known without timm; pretrained weights must have the same ones.
    """

    architecture: str = Field(
        "vit_base_patch16_224", description="timm model that defines the kind of blocks"
    )
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
        description="patch: one linear projection; conv: 3×3 convolutions of stride 2 down to the same grid, each "
        "with norm and ReLU, then a 1×1 convolution",
    )
    stem_norm: Literal["group", "batch"] = Field(
        "group",
        description="norm after the stem's convolutions; batch computes statistics over the images of a batch",
    )
    position_scale: float = Field(
        0.0,
        ge=0,
        description="scale of a 2-D sinusoid as initial position embedding; 0 for timm's random one",
    )
    pretrained: NameOrPath | None = Field(None, description=PRETRAINED)

    def describe(self) -> VisionFacts:
        side = grid_side(self.image_size, self.patch_size)
        require_divisor(self.heads, self.width)
        if self.summary == "cls" and not self.class_token:
            raise SettingError("summary", '"cls" needs class_token: true; without a class token use "mean"')
        if self.position_scale:
            if self.width % 4:
                raise SettingError(
                    "width", f"{self.width} is not a multiple of 4, which position_scale needs"
                )
            if self.pretrained is not None:
                raise SettingError("position_scale", "pretrained weights have their own positions; use 0")
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
            raise SettingError(
                "patch_size", f"{self.patch_size} is not a power of two, which a conv stem needs"
            )
        if self.width % 2 ** (steps - 1):
            raise SettingError(
                "width", f"{self.width} is not a multiple of {2 ** (steps - 1)}, which the conv stem needs"
            )
        if self.pretrained is not None:
            raise SettingError("stem", "published weights have a patch stem; remove stem or pretrained")

    def build(self, assets: Path | None = None) -> VisionEncoder:
        from x2kit_timm.vit import TimmViTEncoder

        return TimmViTEncoder(self, assets)


class BeitV2(FromTimm):
    """BEiT-v2 as in X²-VLM: a table of relative positions in each block; position 0 is the patches' mean.

    Use it to continue a checkpoint of X²-VLM or CCLM, or to reproduce their results. Images are normalised with
    CLIP's statistics, as in the paper.
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


class Swin(FromTimm):
    """Swin transformer as in X-VLM: position 0 is the mean of the last stage's normalised tokens.

    Use it to continue a checkpoint of X-VLM; its stages make large images cheap. Every stage after the first halves
    the grid and doubles the width. Images are normalised with CLIP's statistics, as in the paper.
    """

    official_end_token: ClassVar[bool] = False

    image_size: int = Field(224, gt=0, description="side of the image in pixels")
    patch_size: int = Field(4, gt=0, description="side of a patch of the first stage in pixels")
    width: int = Field(
        128, gt=0, description="width of the first stage; each later stage doubles it, up to D"
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
        """Scale the window with the image, so that the last stage stays one window (X-VLM: 12 at 384)."""
        before = self.describe().grid[0]
        after = image_size // (self.image_size // before)
        window = self.window * after // before
        return self.model_validate({**self.model_dump(), "image_size": image_size, "window": window})

    def build(self, assets: Path | None = None) -> VisionEncoder:
        from x2kit_timm.swin import SwinEncoder

        return SwinEncoder(self, load=assets is None)


class TimmVision(FromTimm):
    """Any vision encoder of timm; its patches, grid and image size follow from timm's model definition.

    Swin v2 and ConvNeXt (stages; large images at little cost), EVA-02 and the towers of CLIP, SigLIP and SigLIP 2
    (trained with texts, the fastest start for retrieval), DINOv2 and DINOv3 (trained without texts; the most precise
    patches, for regions and boxes). Class and register tokens take part in attention; only patches are output. The
    sizes come from timm, which is imported when the recipe is resolved; this takes some seconds.
    """

    architecture: str | None = Field(
        None,
        description="name of the model in timm, without a weights tag: vit_base_patch14_dinov2; null to read it from "
        "the config.json of the pretrained weights",
    )
    image_size: int | None = Field(
        None, gt=0, description="side of the image in pixels; null for the model's own"
    )
    channels: int | None = Field(
        None,
        gt=0,
        description="channels of the images; null for the model's own, mostly 3. Published weights for three channels "
        "are summed for one and repeated for other numbers, as in timm",
    )
    value_range: tuple[float, float] | None = Field(
        None,
        description="values mapped to 0 and 1, for images of more than 8 bits: [0, 4095] for 12 bits; null for "
        "photographs",
    )
    mean: tuple[float, ...] | None = Field(
        None, description="mean of each channel in units of [0, 1]; null for the model's own, or their mean"
    )
    std: tuple[float, ...] | None = Field(
        None, description="standard deviation of each channel; null for the model's own, or their mean"
    )
    summary: Literal["mean", "cls"] = Field(
        "mean", description="position 0 of the output: mean of the normalised patches, or the class token"
    )
    drop_path: float = Field(0.0, ge=0, lt=1, description=DROP_PATH)
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="arguments that override those of the model in timm: {depth: 6, embed_dim: 384}",
    )
    pretrained: NameOrPath | None = Field(None, description=PRETRAINED)

    def reads_weights_of(self, other: ComponentConfig) -> bool:
        """Whether both are the same encoder and, where both name one, the same timm model."""
        known = getattr(other, "architecture", None)
        return super().reads_weights_of(other) and (
            self.architecture is None or known in (None, self.architecture)
        )

    def timm_model(self) -> TimmModel:
        """Return the model and its arguments. Raises SettingError if neither the settings nor the weights name it."""
        published = {} if self.pretrained is None else published_settings(self.pretrained)
        name = self.architecture or published.get("architecture")
        if name is None:
            raise SettingError(
                "architecture", "required: the name of a model of timm, such as vit_base_patch14_dinov2"
            )
        published_arguments: dict[str, Any] = published.get("model_args") or {}
        arguments = {name: value for name, value in published_arguments.items() if name not in NOT_PUBLISHED}
        channels = {} if self.channels is None else {IN_CHANNELS: self.channels}
        return TimmModel(name, {**arguments, **channels, **self.arguments})

    def describe(self) -> VisionFacts:
        from x2kit_timm.backbone import describe

        model = self.timm_model()
        if self.pretrained is not None:
            published_file(self.pretrained)
        return describe(self, model)

    def build(self, assets: Path | None = None) -> VisionEncoder:
        from x2kit_timm.backbone import TimmVisionEncoder

        return TimmVisionEncoder(self, assets)


def grid_side(image_size: int, patch_size: int) -> int:
    """Return the patches per side. Raises SettingError if patches of this size do not tile the image."""
    if image_size % patch_size:
        raise SettingError("image_size", f"{image_size} pixels are not a multiple of {patch_size}")
    return image_size // patch_size


def require_divisor(heads: int, width: int) -> None:
    """Raise SettingError unless `heads` divides `width`."""
    if heads < 1 or width % heads:
        raise SettingError("heads", f"{heads} heads do not divide the width {width}; use a divisor")
