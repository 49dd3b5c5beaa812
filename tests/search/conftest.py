"""A tiny model on disk, folders of images, and an index of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.model import tiny
from tests.model.conftest import RECIPE, build
from x2kit.inference import Model, load
from x2kit.model import save_weights
from x2kit.search import IndexOptions, IndexReport, index_folders

OPTIONS = IndexOptions(store="Exact", dtype="float32")


def write_image(file: Path, seed: int) -> Path:
    """An image of 16 random blocks."""
    file.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize((32, 32), Image.Resampling.NEAREST).save(file)
    return file


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny model that reads images and videos of two frames."""
    folder = tmp_path_factory.mktemp("search") / "weights"
    save_weights(build(frames=2), RECIPE.replace("embed_dim: 6", "embed_dim: 6, frames: 2"), folder)
    return folder


@pytest.fixture(scope="session")
def other_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of another model with the same shapes."""
    folder = tmp_path_factory.mktemp("search") / "others"
    model = build(frames=2)
    model.vision_proj.weight.data.mul_(2)
    model.vision_proj.weight.data[0] += 1
    save_weights(model, RECIPE.replace("embed_dim: 6", "embed_dim: 6, frames: 2"), folder)
    return folder


@pytest.fixture(scope="session")
def model(weights: Path) -> Model:
    return load(weights, "cpu", plugins=[tiny.__file__])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of eight images, half of them in a subfolder."""
    folder = tmp_path / "photos"
    for number in range(8):
        write_image(folder / ("trip" if number % 2 else "") / f"{number}.png", number)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "photos.index"


Index = Callable[..., IndexReport]


@pytest.fixture
def index(photos: Path, place: Path, model: Model) -> Index:
    """Indexes the folder of images, or other sources, with the options given."""

    def run(*sources: Path | str, **options: object) -> IndexReport:
        chosen = replace(OPTIONS, **options)  # type: ignore[arg-type]
        return index_folders(list(sources) or [photos], place, model, chosen)

    return run
