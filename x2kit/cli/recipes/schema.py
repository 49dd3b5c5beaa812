"""`x2kit recipes schema`: recipes as JSON Schema, for editors."""

from __future__ import annotations

import json
from pathlib import Path

import jsonargparse

from x2kit.io.atomic import atomic_file
from x2kit.plugin.loading.manager import load_plugins
from x2kit.recipe.json_schema import json_schema

TEXT = "the JSON Schema of recipes, with which editors complete and check them"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Where it goes, which files it is for, and with which components."""
    parser.add_argument("file", nargs="?", help="the file to write; by default it is printed")
    parser.add_argument("--overlay", action="store_true", help="of overlays, which need no key")
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="PLUGIN",
        help="a file or module with more components",
    )


def run(options: jsonargparse.Namespace) -> int:
    """Print or write the schema."""
    schema = json.dumps(json_schema(load_plugins(options.plugin).registry, options.overlay), indent=1)
    if options.file is None:
        print(schema)
        return 0
    with atomic_file(Path(options.file)) as beside:
        beside.write_text(schema + "\n", encoding="utf-8")
    print(options.file)
    return 0
