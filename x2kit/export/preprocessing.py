"""Describe how pixels become the input of the image tower, so that pillow and numpy can do it. Imports no torch."""

from __future__ import annotations

from typing import Any

from x2kit.plugin.facts import ImageSpec

_COLOURS = {1: "L", 3: "RGB"}
"""Modes of Pillow."""


def describe(spec: ImageSpec) -> dict[str, Any]:
    """Return preprocessing.json: numbers for programs, and `steps` in words, in their order.

    The program subtracts the mean and divides by the standard deviation itself: its input is in [0, 1].

    Args:
        spec: of the vision encoder.
    """
    mode = _COLOURS.get(spec.channels) if spec.value_range is None else None
    low, high = spec.value_range or (0, 255)
    resize = (
        f"resize to {spec.size} x {spec.size} pixels, the whole image, without keeping its aspect ratio and without "
        f"cropping: {_resizing(spec)}; an image of this size stays as it is"
    )
    scale = f"({low:g} becomes 0, {high:g} becomes 1)"
    scaled = f"divide by 255 {scale}" if spec.value_range is None else f"scale {scale} and clip to [0, 1]"
    read = (
        f'decode the pixels and convert them to 8 bits (Pillow: convert("{mode}")); the orientation in EXIF data is '
        "not applied"
        if mode
        else f"decode the pixels as numbers, {spec.channels} channels"
    )
    # Pixels of a value range are scaled before they are resized.
    order = [resize, scaled] if spec.value_range is None else [scaled, resize, "clip to [0, 1]"]
    return {
        "size": spec.size,
        "channels": spec.channels,
        "mode": mode,
        "resize": "stretch",
        "interpolation": spec.interpolation,
        "antialias": spec.interpolation != "nearest",
        "value_range": [low, high],
        "mean": list(spec.mean),
        "std": list(spec.std),
        "normalised_by": "the program",
        "dtype": "float32",
        "layout": "batch, channels, height, width",
        "steps": [read, *order, "order as [batch, channels, height, width] float32"],
    }


def _resizing(spec: ImageSpec) -> str:
    if spec.interpolation == "nearest":
        return "the nearest pixel (Pillow: Resampling.NEAREST)"
    return (
        f"{spec.interpolation} with antialiasing (Pillow: Resampling.{spec.interpolation.upper()}; x2kit's own result "
        "differs by at most one grey level, and more where one side is enlarged and the other reduced)"
    )
