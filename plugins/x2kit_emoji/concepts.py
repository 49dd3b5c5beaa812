"""The concepts: which emoji are used, in which order, and what they are called in 14 languages."""

from __future__ import annotations

import random
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from x2kit.plugin import DataError, SettingError
from x2kit_emoji import LANGUAGES, missing
from x2kit_emoji.drawings import coarse_look, drawing_files, read_drawing

MAX_LETTERS = 30
MAX_WORDS = 4
"""Longest name in any language: four such names stay within the usual limits of words and tokens."""

MIN_DIFFERENCE = 0.06
"""Least root mean square difference of two drawings from afar; below it lie black squares of three sizes,
hammer and pick, paperclip and linked paperclips, which no eye tells apart at 20 pixels."""

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
    """The first `count` concepts of the fixed order, so that fewer concepts are always among more.

    Usable are emoji of one code point that both vendors have drawn and that all languages name in at most
    four words of letters; parts such as skin tones are not. They are put in a fixed random order; one whose
    name (in any language) or drawing (of either vendor) is too near to one before it is left out.

    Raises: DataError for a missing package, SettingError if there are not so many.
    """
    concepts = _choose(count)
    if len(concepts) < count:
        raise SettingError("concepts", f"{count} asked for, but only {len(concepts)} emoji are usable")
    return concepts


@lru_cache(maxsize=4)
def _choose(count: int) -> list[Concept]:
    google, twitter = drawing_files("google"), drawing_files("twitter")
    names = _names(sorted(google.keys() & twitter.keys()))
    order = sorted(names)
    # random.Random gives the same order in every version of Python; shuffling before sorting out keeps most
    # of the order when the rules of sorting out change.
    random.Random(_ORDER_SEED).shuffle(order)
    chosen: list[Concept] = []
    taken: set[tuple[str, str]] = set()
    looks: list[np.ndarray] = []
    for point in order:
        if len(chosen) == count:
            break
        keys = {(code, plain(name)) for code, name in names[point].items()}
        if keys & taken or not _well_named(names[point]):
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
    """A name as a careless reader sees it: no case, no signs, single spaces."""
    letters = "".join(letter if _is_letter(letter) else " " for letter in unicodedata.normalize("NFKC", name))
    return " ".join(letters.casefold().split())


def _names(points: list[int]) -> dict[int, dict[str, str]]:
    """Names of the emoji that have one in every language."""
    try:
        import emoji
    except ModuleNotFoundError as error:
        raise DataError(f"emoji: {missing('emoji', 'names')}") from error
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
    """The emoji of 2021 have one file in every vendor's folder, so it is neither vendor's work."""
    return one.read_bytes() == other.read_bytes()


def _least_difference(look: np.ndarray, looks: np.ndarray) -> float:
    """look [2, P] against looks [K, 2, P]: the least root mean square difference over K and both vendors."""
    return float(np.sqrt(np.square(looks - look).mean(2)).min())
