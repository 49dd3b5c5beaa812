"""Recipe files with the recipes that they start from. Each file is read once, its bases before it."""

from __future__ import annotations

from pathlib import Path

from x2kit.errors import Fault, RecipeError
from x2kit.model.saved_recipe import holds_saved_recipe
from x2kit.recipe.catalogue import RecipeFile, find
from x2kit.recipe.written import Node
from x2kit.recipe.yaml_text import parse

BASE = "base"


def read_documents(name: str | Path, saved: bool = False) -> tuple[RecipeFile, list[Node]]:
    """The file of this name, and what is to be laid over each other: its bases, theirs first, then the file.

    Args:
        name: a path or the name of a shipped recipe.
        saved: it is the saved recipe of a directory, whatever lies beside it; its bases then count as saved too.
    Raises: RecipeError for a file that is missing or broken, here or at a base, and for bases in a circle.
    """
    file = find(name)
    return file, _chain(file, (), file.path if saved else None)


def read_one(file: RecipeFile, saved: Path | None = None) -> Node:
    """What one file holds, its `base` still in it. Raises RecipeError.

    Relative paths are relative to the file; those of a shipped recipe, which means the user's data, to the working
    directory.
    """
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise RecipeError([Fault("", file.shown, f"cannot be read: {error.strerror}")]) from error
    return parse(data, file.shown, Path.cwd() if file.name else file.path.parent, saved)


def bases(tree: Node) -> list[Node]:
    """The entries of `base`, a name or a list of names. Raises RecipeError for anything else."""
    base = tree.child(BASE)
    if base is None or base.value is None:
        return []
    entries = base.value if isinstance(base.value, list) else [base]
    if any(not isinstance(entry.value, str) for entry in entries):
        message = "should be the name or path of a recipe, or a list of them"
        raise RecipeError([Fault(BASE, str(base.place), message)])
    return entries


def _chain(file: RecipeFile, above: tuple[RecipeFile, ...], saved: Path | None) -> list[Node]:
    if saved is None and file.name is None and holds_saved_recipe(file.path.parent):
        saved = file.path
    tree = read_one(file, saved)
    documents: list[Node] = []
    for entry in bases(tree):
        below = find(str(entry.value), file, Fault(BASE, str(entry.place), ""))
        circle = [*above, file, below]
        if below.path.resolve() in {one.path.resolve() for one in circle[:-1]}:
            way = " → ".join(one.shown for one in circle)
            raise RecipeError([Fault(BASE, str(entry.place), f"the recipe starts from itself: {way}")])
        documents += _chain(below, (*above, file), saved)
    assert isinstance(tree.value, dict)
    documents.append(Node({key: node for key, node in tree.value.items() if key != BASE}, tree.place))
    return documents
