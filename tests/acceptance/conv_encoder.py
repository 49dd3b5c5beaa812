"""A vision encoder of one file, nothing like BEiT: depthwise convolutions and a grid of 5 rows and 7 columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from x2kit.plugin import ImageSpec, Registry, SettingError, VisionEncoderConfig, VisionFacts, hookimpl

GRID = (5, 7)
PATCH = (14, 10)
SIZE = 70


class ConvEncoder(VisionEncoderConfig):
    """A stem and depthwise convolutions; the summary is the strongest patch of each channel."""

    width: int = Field(20, gt=0, description="channels, width D")
    depth: int = Field(2, ge=0, description="depthwise convolutions after the stem")

    def describe(self) -> VisionFacts:
        if self.width % 4:
            raise SettingError("width", f"must be a multiple of 4, found {self.width}")
        image = ImageSpec(SIZE, mean=(0.5,) * 3, std=(0.25,) * 3, interpolation="bilinear")
        return VisionFacts(image, self.width, GRID)

    def build(self, assets: Path | None = None) -> Any:
        return network(self)


def network(config: ConvEncoder) -> Any:
    """The encoder. Torch is imported here, so that naming the plugin costs nothing."""
    from torch import Tensor, nn

    from x2kit.plugin import VisionEncoder, VisionFeatures

    class ConvNetwork(VisionEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.image_spec, self.width, self.grid = config.describe()
            width = self.width
            self.stem = nn.Conv2d(3, width, PATCH, PATCH)
            self.blocks = nn.ModuleList(
                nn.Sequential(
                    nn.GroupNorm(4, width),
                    nn.Conv2d(width, width, 3, padding=1, groups=width),
                    nn.GELU(),
                    nn.Conv2d(width, width, 1),
                )
                for _ in range(config.depth)
            )

        def forward(self, images: Tensor) -> VisionFeatures:
            x = self.stem(images)
            for block in self.blocks:
                x = x + block(x)
            patches = x.flatten(2).transpose(1, 2)
            return VisionFeatures(patches.amax(1), patches, self.grid)

    return ConvNetwork()


@hookimpl
def x2kit_register(registry: Registry) -> None:
    registry.add(ConvEncoder)
