"""`x2kit recipes validate --swaps`: every overlay that exchanges an encoder, over every shipped recipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from x2kit.cli.recipe_costs import model_of
from x2kit.errors import Fault
from x2kit.recipe.swaps import Swapped, every_swap


def swaps_as_json(kind: Swapped) -> tuple[list[dict[str, Any]], list[Fault]]:
    """An entry for each pair of recipe and overlay, with the parameters of the model; and all faults."""
    from x2kit.training.costs import parameter_count

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
    """A row a recipe, a column an overlay: millions of parameters, or WRONG."""
    overlays = list(dict.fromkeys(entry["overlay"] for entry in entries))
    cells = {(entry["recipe"], entry["overlay"]): _cell(entry) for entry in entries}
    recipes = dict.fromkeys(entry["recipe"] for entry in entries)
    head = ["recipe", *(name.removeprefix("overlays/") for name in overlays)]
    return [head, *([recipe, *(cells[recipe, overlay] for overlay in overlays)] for recipe in recipes)]


def swaps_as_text(entries: Sequence[dict[str, Any]]) -> str:
    """The table in columns."""
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
    return f"{entry['parameters'] / 1e6:,.1f}" if entry["valid"] else "WRONG"
