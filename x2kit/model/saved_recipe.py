"""Write the recipe of a run or weights directory with copies of its file plugins. Imports no torch.

recipe.yaml   the resolved recipe; file plugins as paths of their copies, `plugins/NAME.py`
plugins/      a copy of each file or folder plugin
plugins.json  hashes of the copies, versions of modules and of installed distributions with plugins
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import yaml

from x2kit.errors import WeightsError
from x2kit.io.atomic import atomic_file, atomic_folder
from x2kit.io.run_directory import METRICS, MODEL, RECIPE, VERSIONS, WEIGHTS
from x2kit.model.config import ENCODERS
from x2kit.plugin.loading.carried import carry, digest
from x2kit.plugin.loading.discovery import installed
from x2kit.plugin.loading.file_modules import is_path

PLUGINS, MANIFEST = "plugins", "plugins.json"
TRACES = (MANIFEST, VERSIONS, METRICS, "checkpoints", WEIGHTS, MODEL)
"""Files that mark the directory of a saved recipe."""


def write_recipe(recipe: str, directory: Path) -> str:
    """Write a recipe, copies of its file plugins and their manifest.

    Args:
        recipe: the resolved recipe as YAML, file plugins as absolute paths.
        directory: a run or weights directory.
    Returns: the recipe with absolute paths of the copies, for use in other directories.
    Raises: PluginError if a plugin cannot be copied; StorageError for a failed write.
    """
    names = plugins_of(recipe)
    copies: dict[str, str] = {}
    if any(is_path(name) for name in names):
        with atomic_folder(directory / PLUGINS) as folder:
            copies = carry(names, folder)
    relative = {name: f"{PLUGINS}/{copy}" for name, copy in copies.items()}
    _write(directory / RECIPE, _rename_plugins(recipe, relative))
    _write(directory / MANIFEST, json.dumps(_manifest(names, relative, directory), indent=1) + "\n")
    return _rename_plugins(
        recipe, {name: str((directory / copy).resolve()) for name, copy in relative.items()}
    )


def holds_saved_recipe(directory: Path) -> bool:
    """Tell whether the recipe in this directory was saved by a run or with weights, not written by the user."""
    return any(os.path.exists(directory / name) for name in TRACES)  # noqa: PTH110  # False for invalid names


def plugins_of(recipe: str) -> list[str]:
    """List the plugins of a resolved recipe, without the installed ones."""
    tree = yaml.safe_load(recipe)
    names = tree.get("plugins") if isinstance(tree, dict) else None
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def describe_recipe(file: Path) -> dict[str, Any]:
    """Describe what a model was assembled of, from its saved recipe; no plugin is imported.

    Returns: description, the three encoders with their settings, heads, plugins and source of the initial weights.
    Raises: WeightsError if the recipe is missing or damaged.
    """
    try:
        tree: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        model = dict(tree["model"])
        parts: dict[str, str] = {part: _component_line(model[part]) for part in ENCODERS}
    except (OSError, ValueError, RecursionError, TypeError, KeyError, yaml.YAMLError) as error:
        raise WeightsError(f"{file}: missing, damaged, or not a recipe: {error}") from error
    heads = model.get("heads") or {}
    found: dict[str, Any] = {"description": str(tree.get("description") or "").strip() or None, **parts}
    found["heads"] = list(heads.get("built") or ("itc", "itm", "mlm", "bbox")) + list(
        heads.get("extra") or ()
    )
    found["plugins"] = [str(name) for name in tree.get("plugins") or ()] or "only installed ones"
    if model.get("init_from") is not None:
        found["init_from"] = str(model["init_from"])
    return found


def _component_line(chosen: Any) -> str:
    """Format a component of a recipe as its name and those settings that are given."""
    if isinstance(chosen, str):
        return chosen
    settings = chosen.get("init_args") or {}
    given = ", ".join(f"{key} {value}" for key, value in settings.items() if value is not None)
    return f"{chosen['class_path']} ({given})" if given else str(chosen["class_path"])


def _rename_plugins(recipe: str, renamed: Mapping[str, str]) -> str:
    """Replace names in the list of plugins, keeping the rest of the text."""
    if not renamed:
        return recipe
    root = yaml.compose(recipe, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    (entries,) = (value for key, value in root.value if key.value == "plugins")
    names = [renamed.get(entry.value, entry.value) for entry in entries.value]
    written = yaml.safe_dump(names, default_flow_style=True, allow_unicode=True, width=math.inf).strip()
    before, behind = recipe[: entries.start_mark.index].rstrip(), recipe[entries.end_mark.index :]
    gap = "" if entries.flow_style else "\n"
    return f"{before} {written}{gap}{behind}"


def _manifest(names: Sequence[str], copies: Mapping[str, str], directory: Path) -> dict[str, Any]:
    modules = [name for name in names if not is_path(name)]
    known = packages_distributions() if modules else {}
    return {
        "files": {copy: {"sha256": digest(directory / copy)} for copy in copies.values()},
        "modules": {
            name: {owner: version(owner) for owner in known.get(name.partition(".")[0], [])}
            for name in modules
        },
        "installed": sorted({candidate.distribution for candidate in installed()}),
    }


def _write(file: Path, text: str) -> None:
    with atomic_file(file) as partial:
        partial.write_text(text, encoding="utf-8")
