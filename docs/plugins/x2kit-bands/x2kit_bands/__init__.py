"""Images of any bands and depth, and texts of two domains: the settings.

Imports neither torch nor tokenizers, because x2kit imports it whenever it starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field
from x2kit.plugin import (
    ImageSpec,
    Registry,
    SettingError,
    TextEncoderConfig,
    TextFacts,
    Tokenizer,
    VisionEncoderConfig,
    VisionFacts,
    hookimpl,
)

if TYPE_CHECKING:
    from x2kit.plugin import TextEncoder, VisionEncoder

x2kit_api = "1"
VOCABULARIES = Path(__file__).parent / "vocabularies"


class BandViT(VisionEncoderConfig):
    """A vision transformer for images of any channels and depth: radiographs, satellite tiles."""

    image_size: int = Field(224, gt=0, description="side of the image in pixels")
    patch_size: int = Field(16, gt=0, description="side of a patch in pixels")
    channels: int = Field(1, gt=0, description="1 for radiographs, else one for each band")
    value_range: tuple[float, float] = Field(
        (0, 65535),
        description="numbers that become 0 and 1: [0, 4095] of 12 bits, [0, 10000] of reflectance",
    )
    mean: tuple[float, ...] | None = Field(
        None, description="mean of each channel in units of [0, 1]; null for 0.5"
    )
    std: tuple[float, ...] | None = Field(
        None, description="standard deviation of each channel in units of [0, 1]; null for 0.25"
    )
    colours: tuple[int, int, int] | None = Field(
        None, description="channels that people see as red, green and blue; null for the first three, or grey"
    )
    width: int = Field(384, gt=0, description="width D of summary and patches")
    depth: int = Field(12, ge=1, description="transformer layers")
    heads: int = Field(6, ge=1, description="attention heads; the width is a multiple of them")

    def describe(self) -> VisionFacts:
        """What images must be, the width, the patch grid. Raises SettingError for what cannot be."""
        if self.image_size % self.patch_size:
            raise SettingError("patch_size", f"{self.image_size} pixels are no multiple of {self.patch_size}")
        if self.width % self.heads:
            raise SettingError("heads", f"width {self.width} is no multiple of {self.heads}")
        side = self.image_size // self.patch_size
        image = ImageSpec(
            self.image_size,
            self.channels,
            self.mean or (0.5,) * self.channels,
            self.std or (0.25,) * self.channels,
            value_range=self.value_range,
            colours=self.colours,
        )
        return VisionFacts(image, self.width, (side, side))

    def build(self, assets: Path | None = None) -> VisionEncoder:
        """The network, from scratch."""
        from .vision import BandViTEncoder

        return BandViTEncoder(self)


class DomainText(TextEncoderConfig):
    """A transformer with the vocabulary of a domain, whose words it keeps whole: "effusion", "farmland"."""

    domain: Literal["radiology", "remote-sensing"] | None = Field(
        None, description="the vocabulary that comes with the plugin; null to train one on the run's texts"
    )
    vocab_size: int = Field(4000, ge=64, description="most pieces of a vocabulary that is trained")
    width: int = Field(384, gt=0, description="width D of the tokens")
    layers: int = Field(6, ge=1, description="transformer layers")
    heads: int = Field(6, ge=1, description="attention heads; the width is a multiple of them")
    max_length: int = Field(64, ge=3, description="most tokens of a text, first and last included")

    def describe(self) -> TextFacts:
        """Width, longest text and vocabulary. Raises SettingError for what cannot be."""
        if self.width % self.heads:
            raise SettingError("heads", f"width {self.width} is no multiple of {self.heads}")
        known = None
        if self.domain is not None:
            known = len(json.loads(self._vocabulary().read_text(encoding="utf-8"))["model"]["vocab"])
        return TextFacts(self.width, self.max_length, known)

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        """The domain's tokenizer, or one trained on `texts`; what was saved where `assets` are given."""
        from .tokenizer import DomainTokenizer

        if assets is not None:
            return DomainTokenizer.load(assets)
        if self.domain is not None:
            return DomainTokenizer.read(self._vocabulary())
        return DomainTokenizer.train(texts or (), self.vocab_size)

    def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
        """The network, from scratch."""
        from .text import DomainTextEncoder

        return DomainTextEncoder(self, tokenizer)

    def _vocabulary(self) -> Path:
        return VOCABULARIES / f"{self.domain}.json"


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Called by x2kit."""
    registry.add(BandViT)
    registry.add(DomainText)
