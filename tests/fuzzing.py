"""What fuzz tests share: damaged bytes and values, and a count of how a reader answers them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from x2kit.errors import DataError, X2KitError

INPUTS = 10_000
"""Of each reader."""
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**400, 1e308, float("nan"), float("inf"), "", " ", "a", "\ud800", "\0", "x" * 5000, "9" * 5000,
    2**63, "7", [], [[]], [None], [{}], {}, {"en": "a"}, {"en": None}, {"": ""}, [{"en": "a"}, "b"], [0, 0, 1, 1],
    [1, 2, 3, "4"], [{"bbox": [0, 0, 4, 4], "caption": "ear"}],
    [{"bb": [0, 0, 4, 4], "caption": "ear", "attributes": {"de": "x"}}],
)  # fmt: skip
KEYS = (
    "id", "image", "binary", "caption", "desc", "text", "regions", "elems", "texts", "source_text", "target_text",
    "bbox", "bb", "attributes", "en", "de", "video", "video_frames", "is_continuous", "other",
)  # fmt: skip


def answered(
    inputs: Iterable[Any], reader: Callable[[Any], object], refused: type[X2KitError] = DataError
) -> tuple[int, int]:
    """How many inputs gave a result, and how many the reader's own error; anything else is raised."""
    good = bad = 0
    for given in inputs:
        try:
            reader(given)
        except refused:
            bad += 1
        else:
            good += 1
    return good, bad


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut out, doubled or put in, at one place or a few."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5, 20))):
        place = rng.randrange(len(changed) + 1)
        length = rng.choice((1, 1, 2, 4, 50, 1000))
        act = rng.randrange(4)
        if act == 0:
            changed[place : place + length] = rng.randbytes(min(length, len(changed) - place))
        elif act == 1:
            del changed[place : place + length]
        elif act == 2:
            changed[place:place] = changed[place : place + length]
        else:
            changed[place:place] = rng.choice(
                (b"\0" * length, rng.randbytes(length), b'"', b"[", b"{", b"\\ud83d")
            )
    return bytes(changed)


def damaged_value(value: Any, rng: random.Random, keys: Sequence[str] = KEYS) -> Any:
    """Somewhere in a value another one, or a field less, or one more of these keys."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice([*value])
        changed = {**value, key: damaged_value(value[key], rng, keys)}
        if rng.random() < 0.2:
            del changed[rng.choice([*changed])]
        if rng.random() < 0.2:
            changed[rng.choice(keys)] = rng.choice(VALUES)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], damaged_value(value[place], rng, keys), *value[place + 1 :]]
    return rng.choice(VALUES)
