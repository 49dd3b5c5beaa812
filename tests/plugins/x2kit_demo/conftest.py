"""The page of a tiny model, and a client of its API."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient
from x2kit_demo.app import Demo, build_app
from x2kit_demo.examples import read_examples
from x2kit_demo.pictures import Pictures

from tests.model.conftest import build
from x2kit.inference import Model

MAX_UPLOAD = 50_000


def png(seed: int = 0, size: tuple[int, int] = (30, 20)) -> bytes:
    """A PNG of noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(build(), "tiny")


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """JSON Lines of two images with texts."""
    regions = [{"caption": {"en": "dog"}}]
    lines = [
        {"image": "0.png", "caption": {"en": "a red dog", "de": "ein roter hund"}, "regions": regions},
        {"id": "second", "image": "1.png", "caption": ["the sun", "the moon"]},
    ]
    for seed in range(2):
        (tmp_path / f"{seed}.png").write_bytes(png(seed))
    file = tmp_path / "records.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture
def demo(model: Model, scenes: Path) -> Demo:
    pictures = Pictures(memory=3 * MAX_UPLOAD)
    return Demo(model, examples=read_examples(scenes), max_upload=MAX_UPLOAD, pictures=pictures)


@pytest.fixture
def client(demo: Demo) -> TestClient:
    return TestClient(build_app(demo), base_url="http://127.0.0.1:7860")


@pytest.fixture
def image(client: TestClient) -> str:
    """Id of an uploaded image of 30 x 20 pixels."""
    found: str = client.post("/api/images", content=png()).json()["image"]
    return found
