"""Results of two tiny models on the same records, written by `evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from tests.data.stubs import stream
from tests.evaluation.stubs import (
    HEADS,
    Attend,
    Patches,
    SavedWords,
    StubFusion,
    StubPhotos,
    StubText,
    StubVision,
    Words,
)
from x2kit.data.config import DataConfig
from x2kit.evaluation import evaluate
from x2kit.evaluation.config import EvaluationConfig
from x2kit.model import X2VLM, save_weights
from x2kit.model.config import ModelConfig
from x2kit.plugin import Registry
from x2kit.plugin.loading.manager import Plugins
from x2kit.tasks import Grounding, Retrieval

PHOTOS = 23


def recipe(**evaluation: Any) -> Any:
    data = {"photos": stream("ImageText", source=StubPhotos(), languages=["en"])}
    settings = {
        "source": StubPhotos(count=PHOTOS),
        "tasks": {"retrieval": Retrieval(top_k=3), "grounding": Grounding()},
    }
    return SimpleNamespace(
        model=ModelConfig(vision=StubVision(), text=StubText(), fusion=StubFusion(), heads=HEADS),
        data=DataConfig(streams=data),
        evaluation=EvaluationConfig(**{**settings, **evaluation}),
        to_yaml=lambda: "",
    )


def write_run(directory: Path, seed: int, **evaluation: Any) -> Path:
    """Save and evaluate an untrained model; `seed` chooses its weights."""
    torch.manual_seed(seed)
    model = X2VLM(Patches(), Words(SavedWords()), Attend(), HEADS)
    for head in (model.itm_head, model.bbox_head):
        nn.init.normal_(head[-1].weight)
    stored = {"training": {"seed": seed, "lr": 0.1}, "evaluation": {"split": "test"}}
    save_weights(model.eval(), yaml.safe_dump(stored), directory / "weights")
    (directory / "recipe.yaml").write_text(yaml.safe_dump(stored))
    evaluate(directory, recipe(**evaluation), Plugins(Registry(), ()))
    return directory


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs, to be read only."""
    folder = tmp_path_factory.mktemp("runs")
    return write_run(folder / "one", 1), write_run(folder / "two", 2)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run of one's own: `make_run(NAME, SEED, **settings of the evaluation)`."""

    def make(name: str, seed: int = 1, **evaluation: Any) -> Path:
        return write_run(tmp_path / name, seed, **evaluation)

    return make
