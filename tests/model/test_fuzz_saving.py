"""Weights directories, damaged in ten thousand ways, give a model or an error of ours, and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzzing import INPUTS, answered, damaged
from tests.model import tiny
from x2kit.errors import WeightsError, X2KitError
from x2kit.io.run_directory import MODEL, RECIPE
from x2kit.model.build import build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.model.saving import read_model_config, read_weights, recipe_of, save_weights

CONFIG = ModelConfig(
    vision=tiny.TinyVision(), text=tiny.TinyText(), fusion=tiny.TinyFusion(), heads=HeadsConfig(embed_dim=6)
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    save_weights(build_model(CONFIG), recipe_of(CONFIG, "tiny", [tiny.__file__]), tmp_path)
    return tmp_path


@pytest.mark.slow
def test_weights(directory: Path) -> None:
    rng = random.Random(0)
    sound = (directory / MODEL).read_bytes()
    model = build_model(CONFIG)

    def read(content: bytes) -> None:
        (directory / MODEL).write_bytes(content)
        read_weights(model, directory / MODEL)

    good, bad = answered((damaged(sound, rng) for _ in range(INPUTS)), read, WeightsError)
    assert good + bad == INPUTS
    assert min(good, bad) > 10


@pytest.mark.slow
def test_recipes(directory: Path) -> None:
    rng = random.Random(1)
    sound = (directory / RECIPE).read_bytes()

    def read(content: bytes) -> None:
        (directory / RECIPE).write_bytes(content)
        read_model_config(directory / RECIPE)

    good, bad = answered((damaged(sound, rng) for _ in range(INPUTS)), read, X2KitError)
    assert good + bad == INPUTS
    assert min(good, bad) > 10
