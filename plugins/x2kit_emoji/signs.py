"""Write sentences in 14 languages: names of concepts and of signs, joined by commas.

A sign is an emoji that stands for a relation or a question. Its name in each language is the one of the Unicode CLDR,
as for concepts, so no sentence needs a translator: "dog, left arrow, cat" is the dog left of the cat, "red question
mark, left arrow, cat" asks what is left of it, "check mark, dog" whether there is a dog.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from x2kit_emoji.compositions import below, caption_of
from x2kit_emoji.concepts import Concept, names_of
from x2kit_emoji.dataset import LANGUAGES, SIGNS

SIDES = ("left", "right", "above", "below")
"""Signs of the place of one thing relative to another."""

_ABOUT_ONE = (*SIDES, "sideways", "how many", "is there", "where")
_NEIGHBOURS = 10
"""Concepts whose names are joined to each sign for the tokenizer, so that it keeps the words of signs whole."""


@cache
def sign(name: str) -> Concept:
    """Return a sign of `SIGNS` with its names. Raises DataError without the package emoji."""
    point = SIGNS[name]
    return Concept(point, names_of([point])[point])


def draw_sentence(rng: np.random.Generator, subjects: Sequence[Concept]) -> dict[str, str]:
    """Draw a sign alone or a sentence of one of the forms that the tasks use.

    Args:
        subjects: two concepts; some forms name only the first.
    """
    one, other = subjects
    side = sign(SIDES[below(rng, len(SIDES))])
    about_one = sign(_ABOUT_ONE[below(rng, len(_ABOUT_ONE))])
    any_sign = sign(tuple(SIGNS)[below(rng, len(SIGNS))])
    forms = ([any_sign], [about_one, one], [one, side, other], [sign("which"), side, one])
    return caption_of(forms[below(rng, len(forms))])


def sign_texts(concepts: Sequence[Concept]) -> Iterator[str]:
    """Iterate over the name of every sign in every language, alone and joined with names of concepts."""
    for name in SIGNS:
        for code in LANGUAGES:
            yield sign(name).names[code]
        for concept in concepts[:_NEIGHBOURS]:
            yield from caption_of([sign(name), concept]).values()
