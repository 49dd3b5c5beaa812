"""Check every overlay that replaces an encoder over every shipped recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from x2kit.cli.recipes.costs import model_of
from x2kit.errors import Fault, RecipeError
from x2kit.recipe.catalogue import is_overlay, read_one, shipped
from x2kit.recipe.merging import expand_shorthands
from x2kit.recipe.reading import ResolvedRecipe, read_recipe
from x2kit.recipe.schema import ROOT
from x2kit.recipe.yaml_text import Node

Swapped = Literal["vision", "text", "fusion"]


class Swap(NamedTuple):
    """An overlay over a recipe, resolved or with its faults."""

    recipe: str
    overlay: str
    resolved: ResolvedRecipe | None
    faults: tuple[Fault, ...]


def overlays_that_swap(kind: Swapped) -> list[str]:
    """List shipped overlays that replace an encoder and need no published weights."""
    return [str(file.name) for file in shipped() if is_overlay(file) and _swaps(read_one(file), kind)]


def every_swap(kind: Swapped) -> Iterator[Swap]:
    """Read each of these overlays over each shipped recipe, without data checks."""
    overlays = overlays_that_swap(kind)
    for recipe in [str(file.name) for file in shipped() if not is_overlay(file)]:
        for overlay in overlays:
            try:
                yield Swap(recipe, overlay, read_recipe([recipe, overlay], checks="without data"), ())
            except RecipeError as error:
                yield Swap(recipe, overlay, None, error.faults)


def _swaps(overlay: Node, kind: Swapped) -> bool:
    tree = expand_shorthands(overlay, ROOT)
    path = ("model", kind)
    chosen, published = (*path, "class_path"), (*path, "init_args", "pretrained")
    return tree.descend(chosen)[1] == len(chosen) and tree.descend(published)[1] < len(published)


def swaps_as_json(kind: Swapped) -> tuple[list[dict[str, Any]], list[Fault]]:
    """Return an entry with parameter count for each recipe and overlay, and all faults."""
    from x2kit.training.profiling.costs import parameter_count

    entries: list[dict[str, Any]] = []
    faults: list[Fault] = []
    for recipe, overlay, resolved, found in every_swap(kind):
        parameters = None if resolved is None else parameter_count(model_of(resolved))
        entries.append(
            {
                "recipe": recipe,
                "overlay": overlay,
                "valid": not found,
                "faults": [vars(fault) for fault in found],
                "parameters": parameters,
            }
        )
        faults += [
            Fault(fault.key, fault.place, f"{fault.message}\n  ({overlay} over {recipe})") for fault in found
        ]
    return entries, faults


def swaps_as_table(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return rows of recipes and columns of overlays: millions of parameters, or INVALID."""
    overlays = list(dict.fromkeys(entry["overlay"] for entry in entries))
    cells = {(entry["recipe"], entry["overlay"]): _cell(entry) for entry in entries}
    recipes = dict.fromkeys(entry["recipe"] for entry in entries)
    head = ["recipe", *(name.removeprefix("overlays/") for name in overlays)]
    return [head, *([recipe, *(cells[recipe, overlay] for overlay in overlays)] for recipe in recipes)]


def swaps_as_text(entries: Sequence[dict[str, Any]]) -> str:
    """Format the table with aligned columns."""
    rows = swaps_as_table(entries)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
    ]
    valid = sum(entry["valid"] for entry in entries)
    return "\n".join(
        [*lines, f"{valid} of {len(entries)} pairs are valid; numbers are parameters in millions"]
    )


def _cell(entry: dict[str, Any]) -> str:
    return f"{entry['parameters'] / 1e6:,.1f}" if entry["valid"] else "INVALID"
