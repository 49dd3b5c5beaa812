"""Every vision encoder with every text encoder with every fusion encoder: trained, saved, loaded, measured.

The thin diagonal, in which each setting stands at least once, is part of the fast suite; the cross product is slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import x2kit
from tests.data.stubs import WORDS, Scenes, StubScenes
from tests.model import plain
from tests.plugins.debug_settings import FUSION, TEXT, VISION, WIDTH
from x2kit.data.config import DataConfig
from x2kit.evaluation.config import EvaluationConfig
from x2kit.evaluation.harness import evaluate
from x2kit.model import X2VLM, save_weights
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.model.saving import load
from x2kit.plugin import PretrainingConfig, Record
from x2kit.plugin.loading.manager import Plugins, load_plugins
from x2kit.recipe.validation import validate
from x2kit.tasks import ImageText, ParallelText, PlainText, RegionText, Retrieval, VideoText
from x2kit.training.config import TrainingConfig
from x2kit.training.stepper import Stepper, assemble

Names = tuple[str, str, str]
ALL: list[Names] = list(product(VISION, TEXT, FUSION))
DIAGONAL: list[Names] = list(zip(VISION, cycle(TEXT), cycle(FUSION), strict=False))
STREAMS: dict[str, PretrainingConfig] = {
    "images": ImageText(),
    "regions": RegionText(images_from="images"),
    "videos": VideoText(min_clip_frames=2),
    "translations": ParallelText(pivot="en"),
    "texts": PlainText(),
}
TRAINING = {"steps": 2, "lr": 1e-3, "warmup": 0, "device": "cpu", "precision": "fp32", "seed": 3}


class _Filmed(Scenes):
    """Scenes that were filmed, too."""

    def __getitem__(self, index: int) -> Record:
        record: Any = super().__getitem__(index)
        return {**record, "video": [record["image"], record["image"].rotate(90)]}  # type: ignore[typeddict-unknown-key]


class FilmedScenes(StubScenes):
    """A source for every task of pretraining."""

    split: str = "train"

    def open(self) -> Scenes:
        return _Filmed(self)


def recipe_of(names: Names) -> x2kit.Recipe:
    """One step on every task of pretraining, and retrieval on a few images."""
    vision, text, fusion = names
    scenes = FilmedScenes(count=8)
    unchanged = {"crop_scale": None, "flip": 0.0, "augment_operations": 0}
    common = {"source": scenes, "batch_size": 2, "max_tokens": 12, "transform": unchanged}
    more: dict[str, dict[str, Any]] = {
        "regions": {"batch_size": 4},
        "videos": {"frames": 2},
    }
    return x2kit.Recipe(
        model=ModelConfig(
            vision=VISION[vision],
            text=TEXT[text],
            fusion=FUSION[fusion],
            heads=HeadsConfig(embed_dim=8, frames=2),
        ),
        data=DataConfig.model_validate(
            {
                "num_workers": 0,
                "streams": {
                    name: {**common, "task": task, **more.get(name, {})} for name, task in STREAMS.items()
                },
            }
        ),
        training=TrainingConfig.model_validate(TRAINING),
        evaluation=EvaluationConfig.model_validate(
            {"source": FilmedScenes(count=4), "split": "test", "tasks": {"retrieval": Retrieval(top_k=2)}}
        ),
    )


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The tensors are small: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def outputs(model: X2VLM, image_size: int) -> list[torch.Tensor]:
    """What people ask of a model: similarity, matching, boxes."""
    images = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green")]
    texts = [" ".join(WORDS[:2]), WORDS[2]]
    asked = [ask(model, images, texts) for ask in (plain.similarity, plain.match, plain.locate)]
    assert model.image_spec.size == image_size
    return asked


def named(model: X2VLM, part: str) -> list[tuple[str, torch.Tensor]]:
    return [(name, value) for name, value in model.named_parameters() if name.startswith(f"{part}.")]


def check(names: Names, plugins: Plugins, folder: Path) -> None:
    """Resolve, train a step, save, load, measure."""
    recipe = recipe_of(names)
    facts = validate(recipe)
    assert facts is not None
    assert (facts.vision.width, facts.text.width, facts.fusion.width) == (WIDTH, WIDTH, WIDTH)

    parts, _ = assemble(recipe, lambda message: None)
    model = parts.model
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    found = Stepper(recipe, parts, 0).step(parts.batches.batch(0))
    expected = {f"{name}.{loss}" for name, task in STREAMS.items() for loss in task.losses}
    assert expected <= set(found)
    assert all(torch.isfinite(torch.as_tensor(value)) for value in found.values())
    still = [name for name, value in model.named_parameters() if value.grad is None]
    assert not still, f"no gradient reaches {still[:5]}"
    for part in ("vision", "text", "fusion"):
        assert any(not torch.equal(value, before[name]) for name, value in named(model, part)), (
            f"{part} stays"
        )

    save_weights(model.eval(), recipe.to_yaml(), folder)
    loaded = load(folder)
    size = facts.vision.image.size
    for own, again in zip(outputs(model, size), outputs(loaded, size), strict=True):
        assert torch.equal(own, again), "what is loaded answers otherwise than what was saved"

    result = evaluate(folder, recipe, plugins, device="cpu")
    english = result["languages"]["en"]
    assert (english["queries"], english["candidates"]) == (4, 4)


def test_every_encoder_of_x2kit_has_a_debug_setting(plugins: Plugins) -> None:
    registered = {
        entry.component
        for entry in plugins.registry
        if entry.component.kind in ("vision", "text", "fusion") and entry.distribution.startswith("x2kit ")
    }
    assert registered == {type(setting) for table in (VISION, TEXT, FUSION) for setting in table.values()}


def test_every_debug_setting_stands_in_the_diagonal() -> None:
    for place, table in enumerate((VISION, TEXT, FUSION)):
        assert {names[place] for names in DIAGONAL} == set(table)


def shown(names: Names) -> str:
    return " + ".join(name.replace("TimmVision, ", "").replace("HuggingFaceText, ", "") for name in names)


@pytest.mark.parametrize("names", DIAGONAL, ids=shown)
def test_it_trains_saves_loads_and_is_measured(names: Names, plugins: Plugins, tmp_path: Path) -> None:
    check(names, plugins, tmp_path / "weights")


@pytest.mark.slow
@pytest.mark.parametrize("names", ALL, ids=shown)
def test_any_three_train_save_load_and_are_measured(names: Names, plugins: Plugins, tmp_path: Path) -> None:
    check(names, plugins, tmp_path / "weights")
