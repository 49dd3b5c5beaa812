"""Overlays that exchange an encoder, laid over every shipped recipe. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from x2kit.errors import Fault, RecipeError
from x2kit.recipe.catalogue import is_overlay, shipped
from x2kit.recipe.documents import read_one
from x2kit.recipe.merging import written_out
from x2kit.recipe.reading import ResolvedRecipe, read_recipe
from x2kit.recipe.shapes import ROOT
from x2kit.recipe.written import Node

Swapped = Literal["vision", "text", "fusion"]


class Swap(NamedTuple):
    """An overlay over a recipe: what they resolve to, or the faults."""

    recipe: str
    overlay: str
    resolved: ResolvedRecipe | None
    faults: tuple[Fault, ...]


def overlays_that_swap(kind: Swapped) -> list[str]:
    """Names of the shipped overlays that exchange this encoder; without those that need published weights."""
    return [str(file.name) for file in shipped() if is_overlay(file) and _swaps(read_one(file), kind)]


def every_swap(kind: Swapped) -> Iterator[Swap]:
    """Each of these overlays over each shipped recipe, checked without data."""
    overlays = overlays_that_swap(kind)
    for recipe in [str(file.name) for file in shipped() if not is_overlay(file)]:
        for overlay in overlays:
            try:
                yield Swap(recipe, overlay, read_recipe([recipe, overlay], checks="without data"), ())
            except RecipeError as error:
                yield Swap(recipe, overlay, None, error.faults)


def _swaps(overlay: Node, kind: Swapped) -> bool:
    tree = written_out(overlay, ROOT)
    path = ("model", kind)
    chosen, published = (*path, "class_path"), (*path, "init_args", "pretrained")
    return tree.descend(chosen)[1] == len(chosen) and tree.descend(published)[1] < len(published)
