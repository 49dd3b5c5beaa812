"""A plugin with components of every kind that need no weights, and a recipe that is made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

PLUGIN = '''
from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from x2kit.plugin import (
    FusionEncoderConfig,
    FusionFacts,
    ImageSpec,
    NameOrPath,
    SettingError,
    SourceConfig,
    TaskConfig,
    TextEncoderConfig,
    TextFacts,
    VisionEncoderConfig,
    VisionFacts,
    hookimpl,
)


class Unbuilt:
    def build(self, *arguments, **settings):
        raise AssertionError("a weight is built")

    build_tokenizer = open = run = build


class Eye(Unbuilt, VisionEncoderConfig):
    """A vision encoder."""

    width: int = 16
    image_size: int = 32
    channels: int = 3
    pretrained: NameOrPath | None = None

    def describe(self):
        if self.image_size % 8:
            raise SettingError("image_size", f"must be a multiple of 8, found {self.image_size}")
        side = self.image_size // 8
        return VisionFacts(ImageSpec(self.image_size, self.channels), self.width, (side, side))


class Lexicon(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = 100
    file: Path | None = None


class Reader(Unbuilt, TextEncoderConfig):
    """A text encoder."""

    width: int = 16
    depth: int = 2
    pretrained: NameOrPath | None = None
    lexicon: Lexicon = Lexicon()

    def describe(self):
        return TextFacts(self.width, 40, None)


class OtherReader(Reader):
    """Another text encoder that shares settings with the first."""


class Mixer(Unbuilt, FusionEncoderConfig):
    """A fusion encoder."""

    heads: int = 2

    def describe(self, text_width, context_width):
        if text_width % self.heads:
            raise SettingError("heads", f"{self.heads} heads do not divide the width {text_width}")
        return FusionFacts(text_width, 1)


class Scenes(Unbuilt, SourceConfig):
    """A source with pictures."""

    split: str = "train"
    file: Path | None = None
    more: tuple[Path, ...] = ()

    def check(self):
        if self.file is not None and not self.file.exists():
            raise SettingError("file", f"not found: {self.file.name}")

    def languages(self):
        return ("en", "de", "zh")


class Rank(Unbuilt, TaskConfig):
    """A task."""

    top_k: int = 4


@hookimpl
def x2kit_register(registry):
    for component in (Eye, Reader, OtherReader, Mixer, Scenes, Rank):
        registry.add(component)
'''

RECIPE = """\
description: a recipe for tests
plugins: [stubs.py]
model:
  vision: Eye
  text:
    class_path: Reader
    init_args:
      depth: 3
      pretrained: some-name
  fusion: Mixer
data:
  streams:
    pictures:
      kind: image-text
      source: Scenes
      batch_size: 4
    regions:
      kind: region-text
      source: Scenes
      batch_size: 8
      images_from: pictures
      losses: {bbox: 2}
    parallel:
      kind: parallel-text
      source: Scenes
      batch_size: 4
      pivot: en
training:
  steps: 10
  lr: 1e-4
evaluation:
  source: Scenes
  tasks:
    retrieval: Rank
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes files into a new working directory that holds a plugin, stubs.py, and a recipe, good.yaml."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, text: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    write_file("stubs.py", PLUGIN)
    write_file("good.yaml", RECIPE)
    return write_file


@pytest.fixture
def recipe_text() -> str:
    """The text of good.yaml."""
    return RECIPE
