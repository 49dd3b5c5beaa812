"""A copy of a shipped recipe, to be changed."""

from __future__ import annotations

from pathlib import Path

import yaml

from x2kit.errors import Fault, RecipeError
from x2kit.recipe.catalogue import find
from x2kit.recipe.documents import BASE, bases, read_one


def copy_recipe(name: str, target: Path) -> Path:
    """Write the recipe to a new file, comments included.

    Entries of `base` that are paths become names of the catalogue, nothing else changes.

    Args:
        name: of a shipped recipe, or a path.
        target: the new file, or a folder for it.
    Returns: the new file.
    Raises: RecipeError if there is no such recipe, or if the file exists.
    """
    source = find(name)
    text = source.path.read_text(encoding="utf-8-sig")
    file = target / source.path.name if target.is_dir() else target
    for entry in bases(read_one(source)):
        below = find(str(entry.value), source, Fault(BASE, str(entry.place), ""))
        text = _renamed(text, str(entry.value), below.name or str(below.path.absolute()))
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as copy:
            copy.write(text)
    except FileExistsError as error:
        message = "exists already and is left alone; name another file"
        raise RecipeError([Fault("", str(file), message)]) from error
    return file


def _renamed(text: str, old: str, new: str) -> str:
    """The text with one entry of `base` replaced where YAML reads it, and not where a comment mentions it."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)  # it was read before
    for key, value in root.value:
        entries = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for entry in entries if key.value == BASE else ():
            if entry.value == old:
                return text[: entry.start_mark.index] + new + text[entry.end_mark.index :]
    return text
