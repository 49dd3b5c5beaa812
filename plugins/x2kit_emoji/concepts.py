"""Select the emoji used as concepts, their order, and their names in 14 languages."""

from __future__ import annotations

import random
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from x2kit.plugin import DataError, SettingError
from x2kit_emoji.dataset import LANGUAGES, SIGNS, not_installed
from x2kit_emoji.drawings import coarse_look, drawing_files, read_drawing

MAX_LETTERS = 30
MAX_WORDS = 4
"""Longest name in any language: four such names stay within the usual limits of words and tokens."""

MIN_DIFFERENCE = 0.06
"""Minimum root mean square difference of two downscaled drawings. Below it are black squares of three sizes,
hammer and pick, paperclip and linked paperclips, which cannot be told apart at 20 pixels."""

_ORDER_SEED = 2022


class Concept(NamedTuple):
    """One emoji.

    Attributes:
        point: its code point.
        names: {language: name}, all 14, English first.
    """

    point: int
    names: dict[str, str]


def choose(count: int) -> list[Concept]:
    """Return the first `count` concepts of the fixed order; a smaller count gives a prefix of a larger one.

    Candidates are emoji of one code point that both vendors have drawn and that all languages name in at most
    four words of letters, without parts such as skin tones. They are shuffled with a fixed seed, then skipped if
    their name (in any language) or drawing (of either vendor) is too close to that of an earlier one. Signs are
    left out.

    Raises: DataError for a missing package, SettingError if there are not so many.
    """
    concepts = _choose(count)
    if len(concepts) < count:
        raise SettingError("concepts", f"{count} requested, but only {len(concepts)} emoji are usable")
    return concepts


@lru_cache(maxsize=4)
def _choose(count: int) -> list[Concept]:
    google, twitter = drawing_files("google"), drawing_files("twitter")
    names = names_of(sorted(google.keys() & twitter.keys()))
    order = sorted(names)
    # random.Random gives the same order in every version of Python. Shuffling before filtering keeps most of
    # the order when a filter changes.
    random.Random(_ORDER_SEED).shuffle(order)
    chosen: list[Concept] = []
    taken: set[tuple[str, str]] = set()
    looks: list[np.ndarray] = []
    for point in order:
        if len(chosen) == count:
            break
        keys = {(code, plain(name)) for code, name in names[point].items()}
        if point in SIGNS.values() or keys & taken or not _well_named(names[point]):
            continue
        if _same_image(google[point], twitter[point]):
            continue
        look = np.stack([coarse_look(read_drawing(files[point])) for files in (google, twitter)])
        if looks and _least_difference(look, np.stack(looks)) < MIN_DIFFERENCE:
            continue
        chosen.append(Concept(point, names[point]))
        taken |= keys
        looks.append(look)
    return chosen


def plain(name: str) -> str:
    """Normalise a name for comparison: no case, no punctuation, single spaces."""
    letters = "".join(letter if _is_letter(letter) else " " for letter in unicodedata.normalize("NFKC", name))
    return " ".join(letters.casefold().split())


def names_of(points: list[int]) -> dict[int, dict[str, str]]:
    """Look up the names of the emoji that have one in every language. Raises DataError without the package emoji."""
    try:
        import emoji
    except ModuleNotFoundError as error:
        raise DataError(f"emoji: {not_installed('emoji')}") from error
    emoji.config.load_language(list(LANGUAGES))
    found: dict[int, dict[str, str]] = {}
    for point in points:
        # the form that is always shown in colour has the fuller entry
        entry = emoji.EMOJI_DATA.get(chr(point) + "\ufe0f") or emoji.EMOJI_DATA.get(chr(point)) or {}
        whole = entry.get("status") == emoji.STATUS["fully_qualified"]
        if whole and all(code in entry for code in LANGUAGES):
            found[point] = {code: _name_of(entry[code]) for code in LANGUAGES}
    return found


def _name_of(entry: str) -> str:
    """ ":dog_face:" is "dog face"; some entries end in a space or hold letters in two parts."""
    return unicodedata.normalize("NFC", " ".join(entry.strip(":").replace("_", " ").split()))


def _well_named(names: dict[str, str]) -> bool:
    return all(
        len(name) <= MAX_LETTERS
        and len(name.split()) <= MAX_WORDS
        and all(_is_letter(sign) or sign in " -'’" for sign in name)
        for name in names.values()
    )


def _is_letter(sign: str) -> bool:
    return sign.isalnum() or unicodedata.category(sign).startswith("M")


def _same_image(one: Path, other: Path) -> bool:
    """Whether both vendors have the same file, as for the emoji of 2021, which neither has drawn."""
    return one.read_bytes() == other.read_bytes()


def _least_difference(look: np.ndarray, looks: np.ndarray) -> float:
    """Compare look [2, P] with looks [K, 2, P]: the minimum RMS difference over K and both vendors."""
    return float(np.sqrt(np.square(looks - look).mean(2)).min())
