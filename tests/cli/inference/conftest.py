"""A tiny model on disk, and a folder of pictures with a broken one."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.model.conftest import RECIPE, build
from x2kit.model import save_weights


@pytest.fixture
def model(folder: Path) -> str:
    """Weights in the working directory, with box head and embeddings of width 6."""
    save_weights(build(), RECIPE, folder / "weights")
    return "--model=weights"


@pytest.fixture
def pictures(folder: Path) -> Path:
    """Two pictures, `pictures/red.png` and `pictures/sub/green.jpg`."""
    place = folder / "pictures"
    (place / "sub").mkdir(parents=True)
    Image.new("RGB", (20, 30), "red").save(place / "red.png")
    Image.new("RGB", (16, 16), "green").save(place / "sub" / "green.jpg")
    return place


@pytest.fixture
def broken(pictures: Path) -> str:
    """A file between the two pictures that ends in the middle."""
    (pictures / "ruin.png").write_bytes((pictures / "red.png").read_bytes()[:60])
    return "pictures/ruin.png"
