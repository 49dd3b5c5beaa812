"""`x2kit recipes diff`: what differs between two recipes once everything is resolved."""

from __future__ import annotations

import json

import jsonargparse

from x2kit.cli.recipe_keys import add_overlay_arguments, read
from x2kit.recipe.changes import ABSENT, differences
from x2kit.recipe.reading import read_recipe
from x2kit.recipe.yaml_text import inline

TEXT = "what differs between two recipes, or what --config and keys change in one"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Two recipes, and what is laid over the second."""
    parser.add_argument("recipe", help="name of a shipped recipe, or path of a file")
    parser.add_argument("other", nargs="?", help="the one to compare it with; by default the same")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_overlay_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Print every key whose values differ; the options' overlays and keys count for the second recipe alone."""
    before = read_recipe([options.recipe], extra_plugins=options.plugin, checks="none")
    after = read(options, [options.other or options.recipe], checks="none")
    found = differences(before.recipe, after.recipe)
    if options.json:
        print(json.dumps([difference._asdict() for difference in found], ensure_ascii=False, indent=2))
        return 0
    for key, old, new in found:
        print(f"{key}: {_shown(old)} → {_shown(new)}")
    if not found:
        print("no difference")
    return 0


def _shown(value: object) -> str:
    return ABSENT if value is ABSENT else inline(value)
