"""The drawn files are what they say they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from x2kit_bands.generate import COVERS, generate


def read(file: Path) -> np.ndarray:
    if file.suffix == ".npy":
        return np.load(file)
    return tifffile.imread(file) if file.suffix == ".tif" else np.asarray(Image.open(file))


@pytest.mark.parametrize("form", ["npy", "tif"])
def test_tiles_have_eight_bands_of_reflectance(form: str, tmp_path: Path) -> None:
    generate("satellite", tmp_path, form, 4, 2)
    records = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert len(records) == 4
    for record in records:
        pixels = read(tmp_path / record["image"])
        assert (pixels.shape, pixels.dtype) == ((64, 64, 8), np.uint16)
        for region in record["regions"]:
            x, y, width, height = region["bbox"]
            inside = pixels[y : y + height, x : x + width].mean((0, 1))
            nearest = min(COVERS, key=lambda cover: np.abs(inside - COVERS[cover]).sum())
            assert region["caption"].startswith(nearest)


@pytest.mark.parametrize("form", ["png", "npy", "tif"])
def test_radiographs_have_one_channel_of_twelve_bits(form: str, tmp_path: Path) -> None:
    generate("radiographs", tmp_path, form, 4, 2)
    for file in (tmp_path / "images").iterdir():
        pixels = read(file)
        assert (pixels.shape, pixels.dtype) == ((64, 64), np.uint16)
        assert 255 < pixels.max() <= 4095


def test_the_same_number_is_the_same_image(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        generate("satellite", tmp_path / folder, "npy", 2, 1)
    files = [sorted((tmp_path / folder).rglob("*.*")) for folder in ("one", "two")]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]
