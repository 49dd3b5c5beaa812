"""`x2kit recipes diff`: compare two resolved recipes key by key."""

from __future__ import annotations

import json

import jsonargparse

from x2kit.cli.recipe_keys import add_overlay_arguments, read
from x2kit.recipe.changes import ABSENT, differences
from x2kit.recipe.reading import read_recipe
from x2kit.recipe.yaml_text import inline

HELP = "compare two recipes, or a recipe with itself under --config and recipe keys"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the two recipes, and the overlays of the second."""
    parser.add_argument("recipe", help="name of a shipped recipe, or path of a recipe file")
    parser.add_argument("other", nargs="?", help="recipe to compare with; the same by default")
    parser.add_argument("--json", action="store_true", help="print the differences as JSON")
    add_overlay_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Print all changed keys; overlays and recipe keys apply to the second recipe only."""
    before = read_recipe([options.recipe], extra_plugins=options.plugin, checks="none")
    after = read(options, [options.other or options.recipe], checks="none")
    changed = differences(before.recipe, after.recipe)
    if options.json:
        print(json.dumps([difference._asdict() for difference in changed], ensure_ascii=False, indent=2))
        return 0
    for key, old, new in changed:
        print(f"{key}: {_shown(old)} → {_shown(new)}")
    if not changed:
        print("no difference")
    return 0


def _shown(value: object) -> str:
    return ABSENT if value is ABSENT else inline(value)
