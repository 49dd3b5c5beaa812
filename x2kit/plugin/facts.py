"""What is known of an encoder without its weights, for parts to be checked against each other. Imports no torch."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, get_args

Interpolation: TypeAlias = Literal["bicubic", "bilinear", "nearest"]
"""How images are brought to an encoder's size."""


class ImageSpec(NamedTuple):
    """What an encoder wants its images to be. It travels with the weights.

    Attributes:
        size: side of the square image, in pixels.
        channels: 3 for colour, 1 for a radiograph, 13 for a satellite tile. Photographs are brought to 1 or 3 channels
            where they have others; arrays, and all images where `value_range` is given, must have as many.
        mean: one a channel, in units of [0, 1]; subtracted by the model before the encoder sees the image.
        std: one a channel; divided by after the mean was subtracted.
        interpolation: how images are brought to `size`.
        value_range: the numbers that become 0 and 1; what lies outside becomes 0 or 1. Images may then be of 16
            bits, whole numbers or floats: (0, 65535) for a PNG of 16 bits, (0, 4095) for a radiograph of 12,
            (0, 10000) for reflectance. None for images of 8 bits, and no deeper ones.
        colours: the channels that stand for red, green and blue where people look at an image; None for the first
            three, or the first in grey. The model is not concerned.
    """

    size: int
    channels: int = 3
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    interpolation: Interpolation = "bicubic"
    value_range: tuple[float, float] | None = None
    colours: tuple[int, int, int] | None = None

    def fault(self) -> str | None:
        """What is wrong with it in itself, in words; None if nothing is."""
        for name in ("mean", "std"):
            numbers = getattr(self, name)
            if len(numbers) != self.channels:
                return f"image.{name} needs one number for each of {self.channels} channels, found {len(numbers)}"
        known = get_args(Interpolation)
        if self.interpolation not in known:
            return f"image.interpolation must be one of {', '.join(known)}, found {self.interpolation!r}"
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            return f"image.value_range must rise, found {self.value_range}"
        if self.colours is not None and not all(0 <= channel < self.channels for channel in self.colours):
            return f"image.colours must be among its channels, 0 to {self.channels - 1}, found {self.colours}"
        return None


class VisionFacts(NamedTuple):
    """What is known of a vision encoder without its weights: image, width D, patch grid (rows, columns)."""

    image: ImageSpec
    width: int
    grid: tuple[int, int]


class TextFacts(NamedTuple):
    """What is known of a text encoder without its weights.

    Attributes:
        width: D.
        max_length: most tokens a text may have, first and last special token included.
        vocab_size: None while the tokenizer is still to be trained on the run's texts.
    """

    width: int
    max_length: int
    vocab_size: int | None


class FusionFacts(NamedTuple):
    """What is known of a fusion encoder without its weights: width D of its output, number of layers."""

    width: int
    layers: int
