"""`x2kit recipes validate`: check recipes and estimate their costs."""

from __future__ import annotations

import json
from typing import Any, get_args

import jsonargparse

from x2kit.cli.key_help import print_help
from x2kit.cli.recipe_keys import add_overlay_arguments, print_warnings, read
from x2kit.cli.recipes.costs import costs_as_json, costs_as_text, parts_as_text
from x2kit.cli.recipes.summary import as_json, as_text
from x2kit.cli.recipes.swaps import Swapped, swaps_as_json, swaps_as_text
from x2kit.errors import Fault, PluginError, RecipeError
from x2kit.recipe.catalogue import is_overlay, shipped
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.recipe.validation import Checks
from x2kit.training.profiling.datasheets import ACCELERATORS, DEFAULT_ACCELERATOR

HELP = "check recipes without building a model, and estimate their costs"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add recipes, checks, costs and overlay options."""
    parser.add_argument("recipes", nargs="*", help="names or paths; each is checked separately")
    parser.add_argument(
        "--all",
        action="store_true",
        help="check all shipped recipes without their data files, and print costs",
    )
    parser.add_argument("--without-data", action="store_true", help="allow missing data files and folders")
    parser.add_argument("--costs", action="store_true", help="print parameters, memory, FLOPs and time")
    parser.add_argument(
        "--accelerator",
        choices=list(ACCELERATORS),
        default=DEFAULT_ACCELERATOR,
        help="device for which to estimate hours",
    )
    parser.add_argument(
        "--swaps",
        choices=get_args(Swapped),
        help="check each shipped overlay that replaces this encoder over each shipped recipe, without data",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    add_overlay_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Check each recipe separately; print all faults and return 2 if there are any."""
    names = [*options.recipes]
    if options.recipe_keys.help:
        return print_help(options, names[:1])
    if options.swaps:
        return _swaps(options)
    if options.all:
        names += [str(file.name) for file in shipped() if not is_overlay(file)]
    found, faults = _check(options, names)
    if options.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return 2 if faults else 0
    if options.all or options.costs:
        print(costs_as_text(found))
    for entry in found if options.costs else []:
        if any(part["frozen"] for part in entry.get("parts", {}).values()):
            print(f"{entry['recipe']}: trained and frozen parameters by part\n{parts_as_text(entry)}")
    if options.all or options.without_data:
        print("not checked: whether data files and folders exist")
    if faults:
        raise RecipeError(faults)
    return 0


def _swaps(options: jsonargparse.Namespace) -> int:
    entries, faults = swaps_as_json(options.swaps)
    if options.json:
        print(json.dumps(entries, ensure_ascii=False, indent=2))
        return 2 if faults else 0
    print(swaps_as_text(entries))
    if faults:
        raise RecipeError(faults)
    return 0


def _check(options: jsonargparse.Namespace, names: list[str]) -> tuple[list[dict[str, Any]], list[Fault]]:
    faults: list[Fault] = []
    found: list[dict[str, Any]] = []
    requested: list[str | None] = [*names] or [None]
    for name in requested:
        try:
            resolved = _read(options, name)
            costs = costs_as_json(resolved, options.accelerator) if options.all or options.costs else {}
        except (RecipeError, PluginError) as error:
            errors = error.faults if isinstance(error, RecipeError) else (Fault("", str(name), str(error)),)
            found.append(_entry(name, errors))
            faults += errors
            continue
        found.append(_entry(name) | as_json(resolved) | costs)
        if not options.json:
            if not options.all:
                print(as_text(name or resolved.label, resolved))
            print_warnings(resolved)
    return found, faults


def _read(options: jsonargparse.Namespace, name: str | None) -> ResolvedRecipe:
    checks: Checks = "without data" if options.all or options.without_data else "all"
    return read(options, [name] if name else [], checks)


def _entry(name: str | None, faults: tuple[Fault, ...] = ()) -> dict[str, Any]:
    """Make a JSON entry; `ok` is the former name of `valid`, kept for programs."""
    return {
        "recipe": name,
        "valid": not faults,
        "ok": not faults,
        "faults": [vars(fault) for fault in faults],
    }
