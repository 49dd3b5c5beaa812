"""A plugin with components of every kind that need no weights. Tests copy it and load it as a file."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from x2kit.plugin import (
    FusionEncoderConfig,
    FusionFacts,
    ImageSpec,
    Location,
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
    """Whatever these components would build must not be built while a recipe is checked."""

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
        means = (0.5,) * self.channels
        return VisionFacts(ImageSpec(self.image_size, self.channels, means, means), self.width, (side, side))


class Lexicon(BaseModel):
    """Settings inside settings."""

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
    """A source with images."""

    split: str = "train"
    file: Path | None = None
    more: tuple[Path, ...] = ()
    parts: tuple[Location, ...] = ()

    def check(self):
        if self.file is not None and not self.file.exists():
            raise SettingError("file", f"not found: {self.file.name}")

    def languages(self):
        return ("en", "de", "zh")


class Rank(Unbuilt, TaskConfig):
    """A task."""

    metrics = ("mean_all",)

    top_k: int = 4


@hookimpl
def x2kit_register(registry):
    for component in (Eye, Reader, OtherReader, Mixer, Scenes, Rank):
        registry.add(component)
