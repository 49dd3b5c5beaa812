"""`x2kit recipes`: list, show, copy, validate and compare recipes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonargparse

from x2kit.cli import recipe_diff, recipe_schema
from x2kit.cli.key_help import is_key, print_help, print_key
from x2kit.cli.recipe_keys import add_overlay_arguments, add_recipe_arguments, read, refuse_keys
from x2kit.cli.recipe_summary import as_json, as_text
from x2kit.errors import Fault, PluginError, RecipeError
from x2kit.recipe.catalogue import RecipeFile, is_overlay, shipped
from x2kit.recipe.copying import copy_recipe
from x2kit.recipe.documents import read_one
from x2kit.recipe.shapes import SECTIONS

HELP = "list, show, copy, validate and compare recipes"
RECIPE_KEYS = SECTIONS
EXAMPLES = """\
examples:
  x2kit recipes list
  x2kit recipes show quickstart/multilingual --config overlays/xlmr
  x2kit recipes show training.lr
  x2kit recipes copy quickstart/multilingual my_recipe.yaml
  x2kit recipes validate my_recipe.yaml --training.steps 200
  x2kit recipes validate --all
  x2kit recipes diff quickstart/multilingual quickstart/long
  x2kit recipes diff quickstart/multilingual --config overlays/xlmr
  x2kit recipes schema > recipe.schema.json
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """The actions."""
    actions = parser.add_subcommands(dest="action", title="actions", description="")
    for name, text in (
        ("list", "names and descriptions of the shipped recipes"),
        (
            "show",
            "the whole recipe as YAML, with the place where each value was written; or what a key means",
        ),
        ("copy", "a shipped recipe as a file of your own"),
        ("validate", "check recipes without building anything"),
        ("diff", recipe_diff.TEXT),
        ("schema", recipe_schema.TEXT),
    ):
        action = jsonargparse.ArgumentParser(description=text, allow_abbrev=False)
        actions.add_subcommand(name, action, help=text)
        if name == "list":
            action.add_argument("--json", action="store_true", help="for programs")
        elif name == "show":
            add_recipe_arguments(action)
            action.add_argument("--plain", action="store_true", help="without comments")
        elif name == "copy":
            action.add_argument("recipe", help="name of a shipped recipe")
            action.add_argument("file", help="the new file; one that exists is left alone")
        elif name == "diff":
            recipe_diff.add_arguments(action)
        elif name == "schema":
            recipe_schema.add_arguments(action)
        else:
            action.add_argument("recipes", nargs="*", help="names or paths; each is checked by itself")
            action.add_argument("--all", action="store_true", help="all shipped recipes")
            action.add_argument("--json", action="store_true", help="for programs")
            add_overlay_arguments(action)


def run(options: jsonargparse.Namespace) -> int:
    """Dispatch to the action."""
    chosen = options[options.action]
    chosen.recipe_keys = options.recipe_keys
    if options.action in ("list", "copy", "schema"):
        refuse_keys(options.recipe_keys, f"recipes {options.action}", ())
    actions = {
        "list": _list,
        "show": _show,
        "copy": _copy,
        "validate": _validate,
        "diff": recipe_diff.run,
        "schema": recipe_schema.run,
    }
    return actions[options.action](chosen)


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


def _validate(options: jsonargparse.Namespace) -> int:
    names = [*options.recipes]
    if options.recipe_keys.help:
        return print_help(options, names[:1])
    if options.all:
        names += [str(file.name) for file in shipped() if not is_overlay(file)]
    faults: list[Fault] = []
    found = []
    for name in names or [None]:
        try:
            resolved = read(options, [name] if name else [])
        except (RecipeError, PluginError) as error:
            own = error.faults if isinstance(error, RecipeError) else (Fault("", str(name), str(error)),)
            found.append({"recipe": name, "ok": False, "faults": [vars(fault) for fault in own]})
            faults += own
        else:
            found.append({"recipe": name, "ok": True, "faults": [], **as_json(resolved)})
            if not options.json:
                print(as_text(name or resolved.label, resolved))
    if options.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    elif faults:
        raise RecipeError(faults)
    return 2 if faults else 0


def _description(file: RecipeFile) -> str:
    node = read_one(file).child("description")
    return " ".join(str(node.value).split()) if node else ""
