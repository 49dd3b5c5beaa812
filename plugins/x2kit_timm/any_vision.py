"""Any vision encoder of timm, by its name there. Imports neither torch nor timm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from x2kit.plugin import NameOrPath, SettingError, VisionEncoderConfig, VisionFacts, WeightsError
from x2kit.plugin.components import ComponentConfig
from x2kit_timm.settings import DROP_PATH, PRETRAINED
from x2kit_timm.weights import published_about, published_file

if TYPE_CHECKING:
    from x2kit.plugin import VisionEncoder

FILE_NAME = "timm.json"
IN_CHANNELS = "in_chans"
"""What timm calls it."""


class Chosen(NamedTuple):
    """A model of timm.

    Attributes:
        name: of timm, without a weights tag.
        arguments: of its constructor.
    """

    name: str
    arguments: dict[str, Any]

    def save(self, directory: Path) -> None:
        """Write it beside weights, which may have been read from a folder that will not be there again."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE_NAME).write_text(json.dumps(self._asdict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Chosen:
        """What `save` wrote. Raises WeightsError if it is missing or damaged."""
        file = directory / FILE_NAME
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            return cls(str(content["name"]), dict(content["arguments"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise WeightsError(f"{file}: not readable as a choice of a timm model: {error}") from error


class TimmVision(VisionEncoderConfig):
    """Any vision encoder of timm: what timm says of a model decides its patches, its grid and its images.

    Swin v2 and ConvNeXt (stages; large images at little cost), EVA-02 and the towers of CLIP, SigLIP and SigLIP 2
    (they have seen texts, the shortest way to retrieval), DINOv2 and DINOv3 (never saw a text; the finest patches,
    for regions and boxes). Class and register tokens take part in attention; only patches are passed on. timm alone
    knows the sizes, so it is asked when the recipe is resolved, which takes some seconds.
    """

    architecture: str | None = Field(
        None,
        description="name of the model in timm, without a weights tag: vit_base_patch14_dinov2; null for that of the "
        "pretrained weights, where a config.json beside them tells it",
    )
    image_size: int | None = Field(
        None, gt=0, description="side of the image in pixels; null for the model's own"
    )
    channels: int | None = Field(
        None,
        gt=0,
        description="of the images; null for the model's own, mostly 3. Published weights of three are summed for "
        "one and repeated for others, as timm does it",
    )
    value_range: tuple[float, float] | None = Field(
        None,
        description="numbers that become 0 and 1, for images of more than 8 bits: [0, 4095] of 12 bits; null for "
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
        description="arguments of the model in timm that shall not be its own: {depth: 6, embed_dim: 384}",
    )
    pretrained: NameOrPath | None = Field(None, description=PRETRAINED)

    def reads_weights_of(self, other: ComponentConfig) -> bool:
        """Whether it is the same encoder and the same model of timm, where both say which."""
        known = getattr(other, "architecture", None)
        return super().reads_weights_of(other) and (
            self.architecture is None or known in (None, self.architecture)
        )

    def chosen(self) -> Chosen:
        """The model and its arguments. Raises SettingError if nothing tells which it is."""
        about = {} if self.pretrained is None else published_about(self.pretrained)
        name = self.architecture or about.get("architecture")
        if name is None:
            raise SettingError(
                "architecture", "missing: the name of a model of timm, such as vit_base_patch14_dinov2"
            )
        arguments = about.get("model_args") or {}
        channels = {} if self.channels is None else {IN_CHANNELS: self.channels}
        return Chosen(name, {**arguments, **channels, **self.arguments})

    def describe(self) -> VisionFacts:
        from x2kit_timm.any_model import facts_of

        chosen = self.chosen()
        if self.pretrained is not None:
            published_file(self.pretrained)
        return facts_of(self, chosen)

    def build(self, assets: Path | None = None) -> VisionEncoder:
        from x2kit_timm.any_model import TimmVisionEncoder

        return TimmVisionEncoder(self, assets)
