"""Video files written by PyAV, whose frames tell their number by their grey."""

from __future__ import annotations

import base64
import io
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
from PIL import Image

SIZE = (64, 48)
STEP, GREYS = 9, 24
"""Levels of grey from a frame to the next, more than a codec loses, and after how many frames they begin again."""


def grey(number: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Frame of this number: dark above, its grey below."""
    pixels = np.full((size[1], size[0], 3), 10 + STEP * (number % GREYS), np.uint8)
    pixels[: size[1] // 4] = 0
    return Image.fromarray(pixels)


def number_of(image: Image.Image) -> int:
    """Which frame this is."""
    return round((float(np.asarray(image.convert("L"))[-8:, -8:].mean()) - 10) / STEP)


def write_video(
    file: Path,
    frames: int = 24,
    *,
    codec: str = "libx264",
    gop: int = 6,
    times: str = "even",
    size: tuple[int, int] = SIZE,
    **options: str,
) -> Path:
    """A video of so many frames; `times`: even, or growing, so that the rate falls; options of the container."""
    with av.open(str(file), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = *size, "yuv420p", gop
        for number in range(frames):
            frame = av.VideoFrame.from_image(grey(number, size))
            frame.pts = number if times == "even" else number * number
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file


def video_bytes(frames: int = 24, **settings: Any) -> bytes:
    """The bytes of an MP4 file."""
    with TemporaryDirectory() as folder:  # an index in front is written by reading the file again
        return write_video(Path(folder, "v.mp4"), frames, **settings).read_bytes()


def write_sound(file: Path) -> Path:
    """A sound without images."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file


def png(number: int) -> bytes:
    """A frame as an encoded image."""
    packed = io.BytesIO()
    grey(number).save(packed, "PNG")
    return packed.getvalue()


def base64_frames(count: int, first: int = 0) -> list[str]:
    """Frames as the official files hold them."""
    return [base64.b64encode(png(number)).decode() for number in range(first, first + count)]
