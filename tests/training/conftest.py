"""Fixtures: a batch of four streams over tiny encoders, and a recipe of them that trains fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from x2kit_fusion import CrossBert

from tests.model import tiny
from x2kit.data.pipeline.batch import Batch, MaskedTexts, PairedRows, ParallelRows, Regions, TextRows
from x2kit.model import X2VLM, build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.plugin.tasks import Texts
from x2kit.recipe import read_recipe
from x2kit.recipe.reading import ResolvedRecipe

Settings = Mapping[str, Any]
Written = Callable[..., ResolvedRecipe]

PLUGIN = f"""\
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})  # so that another process finds the stubs
from tests.data.stubs import StubScenes
from x2kit.plugin import hookimpl

class Scenes(StubScenes):
    split: str = "train"

@hookimpl
def x2kit_register(registry):
    registry.add(Scenes)
"""


@pytest.fixture
def model() -> X2VLM:
    """Tiny encoders and the paper's fusion encoder; two temperatures, so that a mix-up changes results."""
    torch.manual_seed(0)
    config = ModelConfig(
        vision=tiny.TinyVision(),
        text=tiny.TinyText(),
        fusion=CrossBert(layers=2, heads=2, dropout=0.0),
        heads=HeadsConfig(embed_dim=6, own_text_temperature=True),
    )
    model = build_model(config)
    for parameter in model.parameters():
        if parameter.ndim:
            torch.nn.init.normal_(parameter, std=0.3)
    torch.nn.init.constant_(model.text_temperature, 0.2)
    return model.train()


def texts(lengths: list[int], padded: int, seed: int) -> Texts:
    """Draw random texts of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(padded) < torch.tensor(lengths)[:, None]
    ids = torch.randint(5, 5 + len(tiny.WORDS), mask.shape, generator=generator)
    return Texts(torch.where(mask, ids, 1), mask, lengths=tuple(lengths))


def hide(plain: Texts, rows: int, padded: int) -> MaskedTexts:
    """Mask one or two tokens of the first texts; row 0 masks one, so that it has an ignored label."""
    ids = plain.ids[:rows, :padded].clone()
    positions = torch.tensor([[1, 2]]).repeat(rows, 1)
    labels = ids.gather(1, positions)
    ids.scatter_(1, positions, 4)
    ids[0, 2] = plain.ids[0, 2]
    positions[0, 1], labels[0, 1] = 0, -100
    return MaskedTexts(ids, positions, labels)


def step_batch() -> Batch:
    """Build image-text, region-text, parallel-text and text streams of two padded lengths."""
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    captions = texts([7, 5, 12, 4], 16, seed=1)
    names = texts([3, 4, 5, 3, 6], 8, seed=2)
    first, second = texts([5, 3, 8], 8, seed=3), texts([9, 4, 6], 16, seed=4)
    alone = texts([10, 4], 16, seed=5)
    boxes = [
        [0.5, 0.5, 1.0, 1.0],
        [0.3, 0.3, 0.4, 0.4],
        [0.7, 0.6, 0.5, 0.3],
        [0.1, 0.1, 0.2, 0.2],
        [0.5, 0.5, 0.4, 0.9],
    ]
    regions = Regions(torch.tensor(boxes), torch.tensor([True, False, False, False, False]))
    streams = {
        "images": PairedRows(
            torch.tensor([0, 1, 2, 0]), captions, hide(captions, 3, 8), torch.tensor([0, 1, 2, 3]), None, 3
        ),
        "regions": PairedRows(
            torch.tensor([0, 0, 1, 2, 2]), names, hide(names, 5, 8), torch.tensor([0, 1, 2, 3, 1]), regions
        ),
        "parallel": ParallelRows(first, second, hide(first, 3, 8), torch.arange(3)),
        "alone": TextRows(alone, hide(alone, 2, 16)),
    }
    return Batch(0, images, streams, {}, [])


@pytest.fixture
def batch() -> Batch:
    return step_batch()


def gradients(model: X2VLM, loss: Tensor) -> dict[str, Tensor]:
    """Return the gradient of every parameter that has one."""
    named = dict(model.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {name: value for name, value in zip(named, found, strict=True) if value is not None}


def recipe_tree(folder: Path) -> dict[str, Any]:
    """Build a recipe of image, region and parallel-text streams over stub scenes."""
    (folder / "scenes.py").write_text(PLUGIN)
    plain = {"crop_scale": None, "flip": 0.0, "augment_operations": 0}
    common = {"source": "Scenes", "batch_size": 4, "max_tokens": 8, "transform": plain}
    return {
        "plugins": [tiny.__file__, "scenes.py"],
        "model": {
            "vision": "TinyVision",
            "text": "TinyText",
            "fusion": {"class_path": "CrossBert", "init_args": {"layers": 1, "heads": 2}},
            "heads": {"embed_dim": 6},
        },
        "data": {
            "streams": {
                "images": {**common, "task": "ImageText", "languages": ["en"]},
                "regions": {
                    **common,
                    "task": {"class_path": "RegionText", "init_args": {"images_from": "images"}},
                    "languages": ["en"],
                },
                "parallel": {**common, "task": {"class_path": "ParallelText", "init_args": {"pivot": "en"}}},
            }
        },
        "training": {
            "steps": 6,
            "lr": 0.01,
            "warmup": 1,
            "device": "cpu",
            "threads": 1,
            "checkpoint_every": 2,
            "log_every": 1,
        },
        "evaluation": {"source": "Scenes", "tasks": {"retrieval": "Retrieval"}},
    }


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Write the tiny recipe into the temporary folder and resolve it, with changed keys of `training`."""

    def write(streams: Settings | None = None, **training: Any) -> ResolvedRecipe:
        tree = recipe_tree(tmp_path)
        tree["training"] |= training
        for name, settings in (streams or {}).items():
            tree["data"]["streams"][name] |= settings
        file = tmp_path / "tiny.yaml"
        file.write_text(yaml.safe_dump(tree))
        return read_recipe([file])

    return write
