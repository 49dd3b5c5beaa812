"""Facts of encoders known before weights exist, to check parts against each other. Imports no torch."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, get_args

Interpolation: TypeAlias = Literal["bicubic", "bilinear", "nearest"]
"""Interpolation used to resize images."""


class ImageSpec(NamedTuple):
    """Image format of an encoder, saved with the weights.

    Attributes:
        size: side of the square image, in pixels.
        channels: 3 for colour, 1 for a radiograph, 13 for a satellite tile. Photographs are converted to 1 or 3
            channels; arrays, and all images if `value_range` is set, must have exactly this number.
        mean: one per channel, in units of [0, 1]; the model subtracts it before the encoder.
        std: one per channel; the model divides by it after subtracting the mean.
        interpolation: interpolation to resize images to `size`.
        value_range: values mapped to 0 and 1; values outside are clamped. Images may then have 16 bits, integers or
            floats: (0, 65535) for a 16-bit PNG, (0, 4095) for a 12-bit radiograph, (0, 10000) for reflectance. None
            for 8-bit images only.
        colours: channels shown as red, green and blue to people; None for the first three, or the first in grey. The
            model does not use it.
    """

    size: int
    channels: int = 3
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    interpolation: Interpolation = "bicubic"
    value_range: tuple[float, float] | None = None
    colours: tuple[int, int, int] | None = None

    def fault(self) -> str | None:
        """Describe the first inconsistency of the fields; None if there is none."""
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
    """Facts of a vision encoder: image, width D, patch grid (rows, columns)."""

    image: ImageSpec
    width: int
    grid: tuple[int, int]


class TextFacts(NamedTuple):
    """Facts of a text encoder.

    Attributes:
        width: D.
        max_length: maximum number of tokens of a text, including the first and last special token.
        vocab_size: None if the tokenizer is yet to be trained on the run's texts.
    """

    width: int
    max_length: int
    vocab_size: int | None


class Published(NamedTuple):
    """Published weights that an encoder starts from; None where a fact is unknown.

    Attributes:
        name: repository on the Hugging Face Hub, or name of a local file or directory without its path.
        on_hub: whether `name` is a repository.
        revision: commit of the repository that the files belong to.
        licence: as its authors state it, for example "apache-2.0".
    """

    name: str
    on_hub: bool
    revision: str | None = None
    licence: str | None = None


class FusionFacts(NamedTuple):
    """Facts of a fusion encoder: width D of its output, number of layers."""

    width: int
    layers: int
