"""A tiny model with every head that is exported, in a weights directory, and its ONNX export."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.data.stubs import WORDS
from tests.plugins.debug_settings import FUSION, TEXT, VISION
from tests.plugins.test_matrix import FilmedScenes
from x2kit import Recipe
from x2kit.evaluation.config import EvaluationConfig
from x2kit.export.folder import export_model
from x2kit.inference import Model, load
from x2kit.model import save_weights
from x2kit.model.build import build_model
from x2kit.model.config import HeadName, HeadsConfig, ModelConfig
from x2kit.model.saving import recipe_of
from x2kit.tasks import Retrieval

ALL_HEADS: tuple[HeadName, ...] = ("itc", "itm", "mlm", "bbox")


def config_of(
    vision: str = "TimmViT",
    text: str = "Bert",
    fusion: str = "CrossBert",
    heads: tuple[HeadName, ...] = ALL_HEADS,
) -> ModelConfig:
    return ModelConfig(
        vision=VISION[vision],
        text=TEXT[text],
        fusion=FUSION[fusion],
        heads=HeadsConfig(embed_dim=8, built=heads),
    )


def tiny(folder: Path, config: ModelConfig, seed: int = 0) -> Model:
    """Build a model with random weights, save it to a folder and load it."""
    torch.manual_seed(seed)
    module = build_model(config, [*WORDS, "ein Hund", "一只狗", "собака под деревом"])
    save_weights(module.eval(), recipe_of(config, "a tiny model"), folder)
    return load(folder, "cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tensors are small: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return tiny(tmp_path_factory.mktemp("tiny") / "weights", config_of())


def evaluated() -> Recipe:
    """A recipe with an evaluation in two languages."""
    evaluation = EvaluationConfig(
        source=FilmedScenes(count=30), split="test", languages=("en", "de"), tasks={"retrieval": Retrieval()}
    )
    return Recipe(model=config_of(), evaluation=evaluation)


@pytest.fixture(scope="session")
def exported(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as ONNX, in float32 and int8."""
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    export_model(model, "onnx", folder, int8=True, recipe=evaluated())
    return folder
