"""The recipes of a folder with encoders of a few numbers, small batches and scenes without files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from x2kit.recipe import read_recipe
from x2kit.recipe.reading import ResolvedRecipe

ROOT = Path(__file__).parents[2]
PLUGIN = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})  # so that another process finds the stubs
from tests.data.stubs import Scenes, StubScenes
from x2kit.plugin import hookimpl

class Filmed(Scenes):
    def __getitem__(self, index):
        record = super().__getitem__(index)
        return record | {{"video": [record["image"]] * 3}}

class FilmedScenes(StubScenes):
    count: int = 48
    language: str | None = None

    def languages(self):
        return super().languages() if self.language is None else (self.language,)

    def open(self):
        return Filmed(self)

@hookimpl
def x2kit_register(registry):
    registry.add(FilmedScenes)
"""
VISION = {
    "BeitV2": {"image_size": 32, "patch_size": 16, "width": 16, "depth": 1, "heads": 2},
    "ClipVision": {"image_size": 32, "patch_size": 16, "width": 16, "layers": 1, "heads": 2},
    "Swin": {"image_size": 32, "patch_size": 4, "width": 8, "depths": [1, 1], "heads": [1, 2], "window": 4},
}
TEXT = {
    "layers": 1,
    "width": 16,
    "heads": 2,
    "max_length": 64,
    "vocab_size": None,
    "tokenizer": {"vocab_size": 60},
}
TRAINING = {"device": "cpu", "threads": 1, "precision": "fp32", "log_every": 1, "checkpoint_every": 1000}


def recipes(folder: str) -> list[str]:
    """List the shipped recipes of a folder by name."""
    return sorted(f"{folder}/{file.stem}" for file in (ROOT / "recipes" / folder).glob("*.yaml"))


def write_miniature(name: str, folder: Path, rows: int = 8, **training: Any) -> Path:
    """Write a shipped recipe in miniature, with `rows` rows a stream and changed keys of `training`."""
    recipe = read_recipe([name], checks="none").recipe
    streams: dict[str, Any] = {}
    for stream, config in recipe.data.streams.items():
        languages = ["en"] if type(config.task).__name__ != "ParallelText" else None
        source: dict[str, Any] = {"class_path": "FilmedScenes", "init_args": {}}
        if languages and getattr(config.source, "languages_held", None) is None:
            source["init_args"]["language"] = "en"
        streams[stream] = {"source": source, "batch_size": rows}
        if config.layout == "boxes":
            streams[stream]["task"] = {"init_args": {"max_images": max(4, rows * 3 // 4)}}
    (folder / "filmed.py").write_text(PLUGIN)
    tree: dict[str, Any] = {
        "base": name,
        "plugins": ["filmed.py"],
        "model": {
            "vision": {"init_args": VISION[type(recipe.model.vision).__name__]},
            "text": {"init_args": TEXT},
            "fusion": {"init_args": {"layers": 1, "heads": 2}},
            "heads": {"embed_dim": 8},
        },
        "training": {**TRAINING, **training},
    }
    if streams:
        tree["data"] = {"num_workers": 0, "streams": streams}
    file = folder / f"{Path(name).name}.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def read_miniature(file: Path) -> ResolvedRecipe:
    """Resolve a recipe of `write_miniature`."""
    return read_recipe([file])
