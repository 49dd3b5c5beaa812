"""A small untrained model of the quickstart's components, and 100 emoji scenes with captions in two languages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from PIL import Image
from x2kit_emoji import EmojiScenes

from tests.inference.conftest import no_network
from x2kit.inference import Model, load
from x2kit.model import build_model, save_weights
from x2kit.model.config import ModelConfig
from x2kit.model.saving import recipe_of
from x2kit.plugin.choice import context_of
from x2kit.plugin.loading.manager import load_plugins
from x2kit.tasks.retrieval.ranking import ranks, recalls

__all__ = ["no_network"]

LANGUAGES = ("en", "de")
MODEL = """\
vision: {class_path: TimmViT, init_args: {image_size: 32, patch_size: 8, width: 16, depth: 1, heads: 2}}
text: {class_path: Bert, init_args: {width: 16, layers: 1, heads: 2}}
fusion: {class_path: CrossBert, init_args: {layers: 1, heads: 2}}
heads: {embed_dim: 16}
"""


class Scenes(NamedTuple):
    """Images, and one caption of each by language; all captions of a language are distinct."""

    images: list[Image.Image]
    captions: dict[str, list[str]]


@pytest.fixture(scope="session")
def scenes() -> Scenes:
    source = EmojiScenes(split="test", size=100).open()
    records = [source[number] for number in range(len(source))]
    captions = {code: [record["caption"][code] for record in records] for code in LANGUAGES}
    return Scenes([record["image"] for record in records], captions)


@pytest.fixture(scope="session")
def weights(scenes: Scenes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with weights and a recipe that names the languages."""
    folder = tmp_path_factory.mktemp("adapters") / "small"
    registry = load_plugins([]).registry
    config = ModelConfig.model_validate(yaml.safe_load(MODEL), context=context_of(registry))
    torch.manual_seed(0)
    model = build_model(config, texts=[text for texts in scenes.captions.values() for text in texts])
    for projection in (model.vision_proj, model.text_proj):
        torch.nn.init.normal_(projection.weight)
    recipe = recipe_of(config, "small", evaluation={"languages": list(LANGUAGES)})
    save_weights(model, recipe, folder / "weights")
    return folder


@pytest.fixture(scope="session")
def model(weights: Path) -> Model:
    return load(weights, "cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small products are faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def own_recalls(
    model: Model, images: list[Image.Image], texts: list[str], owners: list[int]
) -> dict[str, dict[str, float]]:
    """Recall of both directions as x2kit measures it, given the image of each text."""
    table = torch.from_numpy(model.similarity(images, texts))
    of_images: list[list[int]] = [[] for _ in images]
    for text, owner in enumerate(owners):
        of_images[owner].append(text)
    return {
        "image_to_text": recalls(ranks(table, of_images)),
        "text_to_image": recalls(ranks(table.T, [[owner] for owner in owners])),
    }
