"""Every recipe of recipes/adapt trains: from a run of x2kit, or from published encoders that the libraries wrote.

The published encoders are tiny, of the real architectures, in the files that timm and transformers publish.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.models import save_for_hf

from tests.docs.shell import small
from tests.plugins.x2kit_transformers.published_models import publish
from x2kit.cli import main
from x2kit.model import load
from x2kit.recipe import read_recipe
from x2kit.recipe.catalogue import shipped

NAMES = [str(file.name) for file in shipped()]
ADAPT = [name for name in NAMES if name.startswith("adapt/")]
WEIGHTS = {name: name.replace("adapt/", "overlays/pretrained/") for name in ADAPT}
FROM_ENCODERS = [name for name in ADAPT if WEIGHTS[name] in NAMES]
FROM_A_RUN = [name for name in ADAPT if name not in FROM_ENCODERS]
TEXT = {
    "adapt/siglip2-multilingual-e5": ("e5", False),
    "adapt/dinov3-modernbert": ("modernbert", True),
    "adapt/eva02-xlmr": ("e5", True),  # XLM-R is E5 with its masked-language head
}
"""Family of the text encoder, and whether a masked-language head is published with it."""
PATCHES = 4
"""Side of the grid of patches."""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def write_pairs(folder: Path) -> None:
    """Images in files, with captions."""
    folder.mkdir(parents=True)
    colours = ("red", "green", "blue", "white", "black", "yellow", "orange", "pink")
    for split in ("train", "test"):
        records = []
        for number, colour in enumerate(colours):
            Image.new("RGB", (40 + number, 32), colour).save(folder / f"{split}-{number}.png")
            records.append({"image": f"{split}-{number}.png", "caption": f"a {colour} wall"})
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def write_encoders(recipe: str) -> dict[str, str]:
    """Write a tiny vision and text encoder of the recipe's architectures; return the keys that name them."""
    vision: Any = read_recipe([recipe], checks="none").recipe.model.vision
    torch.manual_seed(0)
    arguments = {"embed_dim": 16, "depth": 3, "num_heads": 2}
    model = timm.create_model(vision.architecture, **arguments)
    save_for_hf(model, "vision", model_args=arguments, safe_serialization=True)
    family, with_head = TEXT[recipe]
    publish(family, Path("text"), with_head=with_head)
    patch = model.patch_embed.patch_size[0]
    return {
        "model.vision.pretrained": "./vision",
        "model.vision.image_size": str(PATCHES * patch),
        "model.text.pretrained": "./text",
        "model.fusion.heads": "2",
        "data.streams.pairs.max_tokens": "12",
    }


def train(recipe: str, *arguments: str) -> Path:
    """Train a recipe for two steps of a few rows."""
    line = ["train", recipe, *arguments]
    assert main([*line, *small(line), "--training.precision=fp32", "--run-dir=run"]) == 0
    return Path("run")


@pytest.mark.parametrize("recipe", FROM_ENCODERS)
def test_a_recipe_from_published_encoders_trains_and_is_measured(
    recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(Path("data/pairs"))
    keys = write_encoders(recipe)
    options = [f"--{key}={value}" for key, value in keys.items()]
    run = train(recipe, "--config", WEIGHTS[recipe], *options)
    assert "warning" not in capsys.readouterr().err
    # No recipe trains the first block: frozen, or adapters of its matrices alone.
    name = "blocks.0.norm1.weight"
    before, after = (
        load_file("vision/model.safetensors")[name],
        load(run).vision.state_dict()[f"model.{name}"],
    )
    assert torch.equal(after, before)
    assert main(["evaluate", str(run)]) == 0
    (language,) = json.loads(Path("run/evaluation.json").read_text())["languages"].values()
    assert (language["queries"], language["candidates"]) == (8, 8)


@pytest.mark.parametrize("recipe", FROM_ENCODERS)
def test_its_costs_are_known_without_its_weights(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "validate", recipe, "--costs", "--without-data", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["gpu_hours"] > 0
    sizes = {part: one["trained"] + one["frozen"] for part, one in entry["parts"].items()}
    assert sizes["vision"] > 85e6
    assert sizes["text"] > 145e6


@pytest.mark.parametrize("recipe", FROM_A_RUN)
def test_a_recipe_from_a_run_trains(recipe: str, english: Path) -> None:
    run = train(recipe, f"--model.init_from={english}")
    assert load(run).text.width == load(english).text.width


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of the built-in data in English."""
    run = tmp_path_factory.mktemp("english") / "run"
    line = ["train", "quickstart/english"]
    assert main([*line, *small(line), f"--run-dir={run}"]) == 0
    return run
