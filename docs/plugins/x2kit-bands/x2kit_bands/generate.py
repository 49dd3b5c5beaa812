"""Small files to try a recipe with: drawn radiographs of 12 bits, drawn satellite tiles of eight bands.

    python -m x2kit_bands.generate radiographs data/radiographs
    python -m x2kit_bands.generate satellite data/satellite

writes train.jsonl and test.jsonl beside a folder of images. The same number is the same image.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

SIDE = 64
Drawn = tuple[NDArray[np.uint16], str, list[dict[str, Any]]]
"""Numbers [H, W] or [H, W, 8], caption, regions."""
Writer = Callable[[Path, NDArray[np.uint16]], None]

# Reflectance times 10 000 in the bands of WorldView-2: coastal, blue, green, yellow, red, red edge,
# near infrared 1 and 2.
COVERS = {
    "forest": (240, 260, 520, 420, 300, 1700, 3100, 3300),
    "water": (620, 560, 430, 260, 170, 110, 70, 50),
    "farmland": (420, 520, 900, 850, 700, 2300, 3500, 3600),
    "bare soil": (900, 1100, 1500, 1900, 2200, 2500, 2800, 3000),
    "buildings": (1500, 1600, 1700, 1750, 1800, 1900, 2000, 2050),
    "snow": (8600, 8800, 8700, 8600, 8400, 8000, 7400, 7000),
}
PLACES = {
    (row, column): " ".join(filter(None, (north, west))) or "centre"
    for row, north in enumerate(("north", "", "south"))
    for column, west in enumerate(("west", "", "east"))
}
FINDINGS = ("nodule", "consolidation", "calcification")
ZONES = ("upper", "middle", "lower")


def satellite_tile(rng: Generator) -> Drawn:
    """A land cover with two others in it."""
    ground, *others = rng.permutation([*COVERS])[:3].tolist()
    pixels = np.empty((SIDE, SIDE, 8))
    pixels[:] = COVERS[ground]
    regions = []
    for cover, place in zip(others, rng.permutation(9)[:2].tolist(), strict=True):
        (row, column), (height, width) = divmod(place, 3), rng.integers(13, 20, 2).tolist()
        y, x = row * 21 + int(rng.integers(21 - height + 1)), column * 21 + int(rng.integers(21 - width + 1))
        pixels[y : y + height, x : x + width] = COVERS[cover]
        regions.append({"bbox": [x, y, width, height], "caption": f"{cover} in the {PLACES[row, column]}"})
    pixels *= 1 + 0.06 * rng.standard_normal((SIDE, SIDE, 1))  # the light, equal in all bands
    pixels += 40 * rng.standard_normal(pixels.shape)
    caption = f"{regions[0]['caption']} and {regions[1]['caption']}, surrounded by {ground}"
    return _whole(pixels, 10000), caption, regions


def radiograph(rng: Generator) -> Drawn:
    """Two lungs from the front, the patient's right at the left, with one to three findings."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    pixels = np.full((SIDE, SIDE), 2600.0) + 4 * y
    for centre in (19, 45):
        pixels[((x - centre) / 11.5) ** 2 + ((y - 30) / 24) ** 2 < 1] = 1100
    pixels[((x - 36) / 9) ** 2 + ((y - 41) / 11) ** 2 < 1] = 2400  # the heart
    regions: list[dict[str, Any]] = []
    for place in sorted(rng.permutation(6)[: rng.integers(1, 4)].tolist()):
        (side, zone), finding = divmod(place, 3), FINDINGS[int(rng.integers(3))]
        cy, cx = 17 + 14 * zone + int(rng.integers(-1, 2)), (17, 47)[side] + int(rng.integers(-2, 3))
        radius, level = {"nodule": (4, 2100), "consolidation": (6, 1750), "calcification": (3, 3300)}[finding]
        pixels[(x - cx) ** 2 + (y - cy) ** 2 <= radius**2] = level
        regions.append(
            {
                "bbox": [cx - radius, cy - radius, 2 * radius + 1, 2 * radius + 1],
                "caption": f"{finding} in the {('right', 'left')[side]} {ZONES[zone]} zone",
            }
        )
    pixels += 60 * rng.standard_normal(pixels.shape)
    caption = " and ".join(region["caption"] for region in regions)
    return _whole(pixels, 4095), caption, regions


def write_npy(stem: Path, pixels: NDArray[np.uint16]) -> None:
    """`[H, W]` or `[H, W, C]`."""
    np.save(stem.with_suffix(".npy"), pixels)


def write_tif(stem: Path, pixels: NDArray[np.uint16]) -> None:
    """Bands as samples; needs tifffile."""
    import tifffile

    tifffile.imwrite(stem.with_suffix(".tif"), pixels, photometric="minisblack", planarconfig="contig")


def write_png(stem: Path, pixels: NDArray[np.uint16]) -> None:
    """One channel of 16 bits."""
    Image.fromarray(pixels).save(stem.with_suffix(".png"))


DRAWN: dict[str, Callable[[Generator], Drawn]] = {"radiographs": radiograph, "satellite": satellite_tile}
WRITERS: dict[str, Writer] = {"npy": write_npy, "tif": write_tif, "png": write_png}


def generate(what: str, folder: Path, form: str, train: int, test: int) -> None:
    """Write so many images for training and for measuring."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    number = 0
    for split, count in (("train", train), ("test", test)):
        lines = []
        for _ in range(count):
            pixels, caption, regions = DRAWN[what](np.random.default_rng(number))
            WRITERS[form](folder / "images" / f"{number:05d}", pixels)
            record = {"id": f"{what}-{number}", "image": f"images/{number:05d}.{form}", "caption": caption}
            lines.append(json.dumps(record | {"regions": regions}))
            number += 1
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _whole(pixels: NDArray[Any], most: int) -> NDArray[np.uint16]:
    return pixels.clip(0, most).round().astype(np.uint16)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=DRAWN)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--form", choices=WRITERS, help="of the files; png for radiographs, npy for tiles")
    parser.add_argument("--train", type=int, default=1500, help="images to train on")
    parser.add_argument("--test", type=int, default=100, help="images to measure on")
    options = parser.parse_args()
    form = options.form or {"radiographs": "png", "satellite": "npy"}[options.what]
    generate(options.what, options.folder, form, options.train, options.test)


if __name__ == "__main__":
    main()
