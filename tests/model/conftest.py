"""A model of tiny encoders, its weights on disk, and images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.model import tiny
from x2kit.model import X2VLM, build_model, save_weights
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.plugin.loading.manager import load_plugins

load_plugins([tiny.__file__])  # what runs in this process needs no consent when weights name a copy of it

RECIPE = f"""\
plugins: [{tiny.__file__}]
model:
  vision: TinyVision
  text: TinyText
  fusion: TinyFusion
  heads: {{embed_dim: 6}}
"""


def build(**heads: Any) -> X2VLM:
    """A tiny model with weights far enough from zero that everything matters."""
    torch.manual_seed(0)
    config = ModelConfig(
        vision=tiny.TinyVision(),
        text=tiny.TinyText(),
        fusion=tiny.TinyFusion(),
        heads=HeadsConfig(**{"embed_dim": 6, **heads}),
    )
    model = build_model(config)
    for head in (model.itm_head, model.bbox_head):
        torch.nn.init.normal_(head[-1].weight)
    return model.eval()


@pytest.fixture
def model() -> X2VLM:
    return build()


@pytest.fixture
def weights(model: X2VLM, tmp_path: Path) -> Path:
    """A weights directory of the model."""
    save_weights(model, RECIPE, tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def images() -> list[Image.Image]:
    """Three images of other colours and sizes."""
    colours, sizes = ("red", "green", "blue"), ((20, 30), (16, 16), (40, 12))
    return [Image.new("RGB", size, colour) for size, colour in zip(sizes, colours, strict=True)]
