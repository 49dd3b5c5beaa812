"""Any vision tower of open_clip, by its name there. Imports neither torch nor open_clip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from x2kit.plugin import NameOrPath, VisionEncoderConfig, VisionFacts, WeightsError
from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.toolkit.pretrained import pretrained_file, pretrained_weights, read_json
from x2kit_openclip.settings import CONFIG, FILENAMES

if TYPE_CHECKING:
    from x2kit.plugin import VisionEncoder

FILE_NAME = "open_clip_vision.json"


class OpenClipVision(VisionEncoderConfig):
    """The vision tower of any model of open_clip that keeps its patches apart: CLIP, SigLIP, SigLIP 2, EVA-02-CLIP.

    It has seen hundreds of millions of images with their texts, so retrieval is good after few steps, and matching
    and boxes are what is left to learn. Position 0 is the patches' mean, or the class token where there is one; the
    projection to CLIP's common space and pooling by attention are left out. open_clip alone knows the sizes, so it is
    asked when the recipe is resolved, which takes some seconds.
    """

    tower: str | None = Field(
        None,
        description="name of the model in open_clip: ViT-B-16-SigLIP2; null for that of the pretrained weights, where "
        "an open_clip_config.json beside them tells it",
    )
    image_size: int | None = Field(
        None, gt=0, description="side of the image in pixels; null for the model's own"
    )
    summary: Literal["mean", "cls"] = Field(
        "mean", description="position 0 of the output: mean of the normalised patches, or the class token"
    )
    vision: dict[str, Any] = Field(
        default_factory=dict,
        description="keys of the model's vision_cfg in open_clip that shall not be its own: {layers: 6, width: 384}",
    )
    pretrained: NameOrPath | None = Field(
        None,
        description="open_clip model on the Hugging Face hub, or a local file or directory; null for none",
    )

    def reads_weights_of(self, other: ComponentConfig) -> bool:
        """Whether it is the same encoder and the same model of open_clip, where both say which."""
        known = getattr(other, "tower", None)
        return super().reads_weights_of(other) and (self.tower is None or known in (None, self.tower))

    def published(self) -> dict[str, Any]:
        """What open_clip wrote beside the pretrained weights; empty without any."""
        if self.pretrained is None:
            return {}
        pretrained_weights("pretrained", self.pretrained, FILENAMES)
        file = pretrained_file("pretrained", self.pretrained, CONFIG)
        return {} if file is None else read_json("pretrained", file)

    def describe(self) -> VisionFacts:
        from x2kit_openclip.any_tower import facts_of, tower_of

        return facts_of(self, tower_of(self))

    def build(self, assets: Path | None = None) -> VisionEncoder:
        from x2kit_openclip.any_tower import OpenClipEncoder

        return OpenClipEncoder(self, assets)


def save_tower(tower: dict[str, Any], directory: Path) -> None:
    """Write what a tower is beside its weights, which may have been read from a folder that will not be there again."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / FILE_NAME).write_text(json.dumps(tower, indent=1) + "\n", encoding="utf-8")


def load_tower(directory: Path) -> dict[str, Any]:
    """What `save_tower` wrote. Raises WeightsError if it is missing or damaged."""
    file = directory / FILE_NAME
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file}: not readable as settings of a tower of open_clip: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{file}: not readable as settings of a tower of open_clip")
    return content
