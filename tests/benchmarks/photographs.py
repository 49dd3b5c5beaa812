"""Generate images that cost a JPEG decoder as much as photographs: gradients, edges and noise."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

QUALITY = 90
_DETAILS = (3, 9, 27, 81)
"""Grid points along the shorter side; as in nature, finer patterns are weaker."""
_THINGS = 25
_SENSOR_NOISE = 3.0


def photograph(seed: int, width: int, height: int) -> Image.Image:
    """Generate an image of soft patterns, shapes with edges, and noise."""
    rng = np.random.default_rng(seed)
    colours = np.zeros((height, width, 3), np.float32)
    for detail in _DETAILS:
        grid = rng.integers(0, 256, (detail, round(detail * width / height), 3), dtype=np.uint8)
        pattern = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        colours += np.asarray(pattern, np.float32) / detail
    colours = (colours - colours.min()) / np.ptp(colours) * 255
    image = Image.fromarray(colours.astype(np.uint8))
    drawing = ImageDraw.Draw(image)
    for _ in range(_THINGS):
        x, y, w, h = (rng.random(4) * (width, height, width / 4, height / 4)).tolist()
        shape = drawing.ellipse if rng.random() < 0.5 else drawing.rectangle
        shape((x, y, x + w, y + h), fill=tuple(rng.integers(0, 256, 3).tolist()))
    soft = np.asarray(image.filter(ImageFilter.GaussianBlur(0.8)), np.float32)
    noisy = soft + rng.normal(0, _SENSOR_NOISE, soft.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image) -> bytes:
    """Encode the image as JPEG with usual settings."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
