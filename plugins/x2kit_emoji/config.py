"""Settings of the emoji sources. Imports neither numpy nor Pillow."""

from __future__ import annotations

import math
from abc import abstractmethod
from importlib.util import find_spec
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from x2kit.plugin import SettingError, SourceConfig
from x2kit_emoji.dataset import (
    HELD_OUT_SHARE,
    LANGUAGES,
    PACKAGES,
    SIZES,
    Background,
    Split,
    Style,
    not_installed,
)

if TYPE_CHECKING:
    from x2kit_emoji.scenes import SceneSource
    from x2kit_emoji.texts import TextSource


class EmojiConfig(SourceConfig):
    """Settings of every source; equal `concepts` select the same emoji and the same split of compositions."""

    split: Split = Field(
        "train", description="part of the data; no composition is in two splits, whatever the seed"
    )
    seed: int = Field(
        0, ge=0, description="seed of the records; it does not change the split of the compositions"
    )
    concepts: int = Field(200, ge=2, description="number of emoji, the first ones of a fixed order")
    size: int | None = Field(
        None, gt=0, description="number of records; null for 100,000 in train, 500 in validation and test"
    )

    @property
    def records(self) -> int:
        """Number of records."""
        return SIZES[self.split] if self.size is None else self.size

    def languages(self) -> tuple[str, ...]:
        """Return the 14 languages, English first."""
        return LANGUAGES

    def check(self) -> None:
        """Raise SettingError if a package is not installed."""
        for package in PACKAGES:
            if find_spec(package) is None:
                raise SettingError("concepts", not_installed(package))


class SetConfig(EmojiConfig):
    """Settings of sources whose held-out records have distinct compositions."""

    @abstractmethod
    def counts(self) -> tuple[int, int]:
        """Return the minimum and maximum number of concepts of a record in this split."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise SettingError if a package is not installed or there are too few compositions."""
        super().check()
        if self.split == "train":
            return
        fewest, most = self.counts()
        compositions = sum(math.comb(self.concepts, count) for count in range(fewest, most + 1))
        allowed = int(HELD_OUT_SHARE * compositions / 4)  # a quarter, so that rejection sampling stays fast
        if self.records > allowed:
            raise SettingError(
                "size",
                f"{self.records} {self.split} records need distinct compositions; {self.concepts} concepts "
                f"allow {allowed}: use fewer records or more concepts",
            )


class DrawnConfig(EmojiConfig):
    """Settings of sources with images."""

    image_size: int = Field(64, ge=16, le=1024, description="side of the square images, in pixels")
    sides: tuple[float, float] = Field(
        (0.28, 0.6),
        description="minimum and maximum of an emoji's longer side, as shares of the image's side",
    )
    max_overlap: float = Field(
        0.1, ge=0, le=1, description="maximum overlap of two boxes, as a share of the smaller one"
    )
    styles: tuple[Style, ...] = Field(
        ("google",),
        min_length=1,
        description="vendors of the drawings; one is drawn per scene",
    )
    backgrounds: tuple[Background, ...] = Field(
        ("plain", "gradient", "noise"),
        min_length=1,
        description="kinds of background; one is drawn per scene",
    )

    @model_validator(mode="after")
    def _sides_fit(self) -> Self:
        shortest, longest = self.sides
        if not 0 < shortest <= longest <= 1:
            raise ValueError(f"sides: expected 0 < minimum <= maximum <= 1, found {shortest}, {longest}")
        return self


class EmojiScenes(SetConfig, DrawnConfig):
    """Images of one to four emoji with boxes, names and captions in 14 languages."""

    objects: tuple[int, int] = Field(
        (1, 4), description="minimum and maximum number of emoji of a scene; scenes of one are in train only"
    )
    near_duplicates: float = Field(
        0.0,
        ge=0,
        le=1,
        description="train: share of odd-numbered scenes that repeat the scene before with one concept replaced",
    )

    @model_validator(mode="after")
    def _ranges_fit(self) -> EmojiScenes:
        fewest, most = self.objects
        if not 1 <= fewest <= most <= self.concepts:
            raise ValueError(f"objects: expected 1 <= minimum <= maximum <= concepts, found {fewest}, {most}")
        rows = math.isqrt(most - 1) + 1
        if self.sides[0] > 1 / rows:
            raise ValueError(
                f"sides: {most} emoji fit if the minimum is at most {1 / rows:.2f}, found {self.sides[0]}"
            )
        if self.split != "train" and most < 2:
            raise ValueError("objects: scenes of one emoji are in train only; allow at least 2")
        return self

    def counts(self) -> tuple[int, int]:
        """Return the minimum and maximum number of emoji of a scene in this split."""
        fewest, most = self.objects
        return (fewest if self.split == "train" else max(2, fewest)), most

    def open(self) -> SceneSource:
        """Open the scenes. Raises DataError for a missing package, SettingError for too many concepts."""
        from x2kit_emoji.scenes import SceneSource

        return SceneSource(self)


class EmojiTexts(SetConfig):
    """Parallel texts of the same concepts: single names, sets and sentences with signs, in 14 languages."""

    single_share: float = Field(
        0.7, ge=0, le=1, description="train: share of single names; validation and test have sets only"
    )
    sign_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="train: share of sentences with signs, as in the sources of tasks, instead of names alone",
    )

    def counts(self) -> tuple[int, int]:
        """Return the minimum and maximum number of names of a set."""
        return 2, min(4, self.concepts)

    def open(self) -> TextSource:
        """Open the texts. Raises DataError for a missing package, SettingError for too many concepts."""
        from x2kit_emoji.texts import TextSource

        return TextSource(self)
