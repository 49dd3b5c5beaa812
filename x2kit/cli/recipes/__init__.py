"""`x2kit recipes`: list, show, copy, validate, compare and scale recipes, and export their schema."""

from __future__ import annotations

import json
from pathlib import Path

import jsonargparse

from x2kit.cli.key_help import is_key, print_help, print_key
from x2kit.cli.parser import ArgumentParser, add_plugin_argument
from x2kit.cli.recipe_keys import add_recipe_arguments, read, refuse_keys
from x2kit.cli.recipes import diff as recipe_diff
from x2kit.cli.recipes import scale as recipe_scale
from x2kit.cli.recipes import validate as recipe_validate
from x2kit.io.atomic import atomic_file
from x2kit.plugin.loading.manager import load_plugins
from x2kit.recipe.catalogue import RecipeFile, copy_recipe, read_one, shipped
from x2kit.recipe.json_schema import json_schema
from x2kit.recipe.schema import SECTIONS

HELP = "list, show, copy, validate and compare recipes"
RECIPE_KEYS = SECTIONS
MODULES = {"validate": recipe_validate, "diff": recipe_diff, "scale": recipe_scale}
"""Actions in their own modules; the others are in this one."""
EXAMPLES = """\
examples:
  x2kit recipes list
  x2kit recipes show quickstart/multilingual --config overlays/xlmr
  x2kit recipes show training.lr
  x2kit recipes copy quickstart/multilingual my_recipe.yaml
  x2kit recipes validate my_recipe.yaml --training.steps 200
  x2kit recipes validate my_recipe.yaml --costs --accelerator h100
  x2kit recipes validate --all
  x2kit recipes validate --swaps text
  x2kit recipes diff quickstart/multilingual quickstart/english
  x2kit recipes diff quickstart/multilingual --config overlays/xlmr
  x2kit recipes scale pretrain/x2vlm-base-4m --ranks 8,64,512 --hardware h100
  x2kit recipes schema recipe.schema.json
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subcommands(dest="action", title="actions", description="")
    for name, text in (
        ("list", "list the shipped recipes with their descriptions"),
        ("show", "print the whole recipe as YAML with the origin of each value, or describe a key"),
        ("copy", "copy a shipped recipe to a new file"),
        ("schema", "write the JSON Schema of recipes, with which editors complete and check them"),
        *((name, module.HELP) for name, module in MODULES.items()),
    ):
        action = ArgumentParser(description=text)
        actions.add_subcommand(name, action, help=text)
        if name == "list":
            action.add_argument("--json", action="store_true", help="print the list as JSON")
        elif name == "show":
            add_recipe_arguments(action)
            action.add_argument("--plain", action="store_true", help="omit the comments with origins")
        elif name == "copy":
            action.add_argument("recipe", help="name of a shipped recipe")
            action.add_argument("file", help="file to write; must not exist")
        elif name == "schema":
            action.add_argument("file", nargs="?", help="file to write; printed by default")
            action.add_argument(
                "--overlay", action="store_true", help="schema of overlays, without required keys"
            )
            add_plugin_argument(action)
        else:
            MODULES[name].add_arguments(action)


def run(options: jsonargparse.Namespace) -> int:
    """Run the action."""
    chosen = options[options.action]
    chosen.recipe_keys = options.recipe_keys
    if options.action in ("list", "copy", "schema"):
        refuse_keys(options.recipe_keys, f"recipes {options.action}", ())
    if options.action in MODULES:
        status: int = MODULES[options.action].run(chosen)
        return status
    return {"list": _list, "show": _show, "copy": _copy, "schema": _schema}[options.action](chosen)


def _list(options: jsonargparse.Namespace) -> int:
    entries = [(str(file.name), _description(file)) for file in shipped()]
    if options.json:
        print(json.dumps([{"name": name, "description": text} for name, text in entries], ensure_ascii=False))
        return 0
    width = max((len(name) for name, _ in entries), default=0)
    for name, text in entries:
        print(f"{name:{width}}  {text}")
    return 0


def _show(options: jsonargparse.Namespace) -> int:
    names = [options.recipe] if options.recipe else []
    if options.recipe_keys.help:
        return print_help(options, names)
    if options.recipe and is_key(options.recipe):
        return print_key(options.recipe, options)
    print(read(options, names, checks="none").to_yaml(origins=not options.plain), end="")
    return 0


def _copy(options: jsonargparse.Namespace) -> int:
    file = copy_recipe(options.recipe, Path(options.file))
    print(f"{file}\nnext: x2kit recipes validate {file}")
    return 0


def _schema(options: jsonargparse.Namespace) -> int:
    schema = json.dumps(json_schema(load_plugins(options.plugin).registry, options.overlay), indent=1)
    if options.file is None:
        print(schema)
        return 0
    with atomic_file(Path(options.file)) as temporary:
        temporary.write_text(schema + "\n", encoding="utf-8")
    print(options.file)
    return 0


def _description(file: RecipeFile) -> str:
    node = read_one(file).child("description")
    return " ".join(str(node.value).split()) if node else ""
