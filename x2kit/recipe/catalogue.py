"""Find recipe files by name or path, read them with their bases, and copy them. Imports no torch.

The catalogue is the shipped recipes, named by their path below `recipes/` without suffix. A recipe names its bases
under `base`; these are read before it, recursively.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from x2kit.errors import Fault, RecipeError
from x2kit.model.saved_recipe import holds_saved_recipe
from x2kit.recipe.faults import nearest
from x2kit.recipe.yaml_text import Node, parse

BASE = "base"
SUFFIX = ".yaml"
PACKAGE = Path(__file__).parents[1]


def read_documents(name: str | Path, saved: bool = False) -> tuple[RecipeFile, list[Node]]:
    """Read a recipe file and its bases, in the order in which to merge them.

    Args:
        name: a path or the name of a shipped recipe.
        saved: treat the file and its bases as the saved recipe of a run or weights directory.
    Returns: the file; the documents, those of bases first, without their `base` keys.
    Raises: RecipeError for a missing or invalid file, also among the bases, and for circular bases.
    """
    file = find(name)
    return file, _with_bases(file, (), file.path if saved else None)


def read_one(file: RecipeFile, saved: Path | None = None) -> Node:
    """Read one file without its bases; the `base` key is kept. Raises RecipeError.

    Relative paths are relative to the file; those of a shipped recipe (the user's data) to the working directory.
    """
    try:
        data = file.path.read_bytes()
    except OSError as error:
        raise RecipeError([Fault("", file.shown, f"cannot be read: {error.strerror}")]) from error
    return parse(data, file.shown, Path.cwd() if file.name else file.path.parent, saved)


def bases(tree: Node) -> list[Node]:
    """Return the entries of `base`, a name or a list of names. Raises RecipeError for anything else."""
    base = tree.child(BASE)
    if base is None or base.value is None:
        return []
    entries = base.value if isinstance(base.value, list) else [base]
    if any(not isinstance(entry.value, str) for entry in entries):
        message = "should be the name or path of a recipe, or a list of these"
        raise RecipeError([Fault(BASE, str(base.place), message)])
    return entries


def _with_bases(file: RecipeFile, parents: tuple[RecipeFile, ...], saved: Path | None) -> list[Node]:
    if saved is None and file.name is None and holds_saved_recipe(file.path.parent):
        saved = file.path
    tree = read_one(file, saved)
    documents: list[Node] = []
    for entry in bases(tree):
        base = find(str(entry.value), file, Fault(BASE, str(entry.place), ""))
        circle = [*parents, file, base]
        if base.path.resolve() in {one.path.resolve() for one in circle[:-1]}:
            chain = " → ".join(one.shown for one in circle)
            raise RecipeError([Fault(BASE, str(entry.place), f"circular bases: {chain}")])
        documents += _with_bases(base, (*parents, file), saved)
    assert isinstance(tree.value, dict)
    documents.append(Node({key: node for key, node in tree.value.items() if key != BASE}, tree.place))
    return documents


@dataclass(frozen=True)
class RecipeFile:
    """A file that holds a recipe.

    Attributes:
        path: its location.
        shown: its path as messages show it.
        name: its name in the catalogue; None for a user's file.
    """

    path: Path
    shown: str
    name: str | None = None

    @property
    def label(self) -> str:
        """A short name for run directories, without folders and suffix."""
        return self.name.replace("/", "-") if self.name else self.path.stem


def folder() -> Path:
    """Return the folder of the shipped recipes."""
    installed = PACKAGE / "recipes"
    return installed if installed.is_dir() else PACKAGE.parent / "recipes"


def shipped() -> list[RecipeFile]:
    """List all shipped recipes and overlays, sorted by name."""
    root = folder()
    names = sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*" + SUFFIX))
    return [_shipped(name) for name in names]


def is_overlay(file: RecipeFile) -> bool:
    """Return whether the file is a shipped overlay."""
    return (file.name or "").startswith("overlays/")


def find(name: str | Path, parent: RecipeFile | None = None, fault: Fault | None = None) -> RecipeFile:
    """Find a recipe file by its path or shipped name.

    Args:
        name: a path, relative to `parent` if given, or the name of a shipped recipe.
        parent: the file that names it as its base.
        fault: key and place to report when there is no such file.
    Raises: RecipeError with the path or name, and the nearest name.
    """
    written = Path(name).expanduser()
    path = parent.path.parent / written if parent else written
    if os.path.isfile(path):  # noqa: PTH113  # Path.is_file() raises for names that no file can have
        return _file(path, written, parent)
    text = Path(name).as_posix()
    known = [file.name for file in shipped() if file.name]
    if text in known:
        return _shipped(text)
    reported = fault or Fault("", str(name), "")
    if os.path.isdir(path):  # noqa: PTH112
        raise RecipeError([Fault(reported.key, reported.place, f"{path} is a folder, not a recipe file")])
    file = f"file {path}" if fault else "such file"
    found = f"no {file} and no shipped recipe of this name{nearest(text.removesuffix(SUFFIX), known)}"
    raise RecipeError([Fault(reported.key, reported.place, f"{found}\n  see: x2kit recipes list")])


def _file(path: Path, written: Path, parent: RecipeFile | None) -> RecipeFile:
    root = folder()
    if path.resolve().is_relative_to(root.resolve()) and path.suffix == SUFFIX:
        return _shipped(path.resolve().relative_to(root.resolve()).with_suffix("").as_posix())
    if parent is None or written.is_absolute():
        return RecipeFile(path, str(written))
    return RecipeFile(path, os.path.normpath(Path(parent.shown).parent / written))


def _shipped(name: str) -> RecipeFile:
    return RecipeFile(folder() / (name + SUFFIX), f"recipes/{name}{SUFFIX}", name)


def copy_recipe(name: str, target: Path) -> Path:
    """Copy a recipe to a new file, comments included.

    Relative paths in `base` become catalogue names or absolute paths; nothing else changes.

    Args:
        name: name of a shipped recipe, or a path.
        target: the new file, or the folder to write it to.
    Returns: the new file.
    Raises: RecipeError if there is no such recipe, or if the file exists.
    """
    source = find(name)
    text = source.path.read_text(encoding="utf-8-sig")
    file = target / source.path.name if target.is_dir() else target
    for entry in bases(read_one(source)):
        base = find(str(entry.value), source, Fault(BASE, str(entry.place), ""))
        text = _replace_base(text, str(entry.value), base.name or str(base.path.absolute()))
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as copy:
            copy.write(text)
    except FileExistsError as error:
        message = "file exists; choose another name"
        raise RecipeError([Fault("", str(file), message)]) from error
    return file


def _replace_base(text: str, old: str, new: str) -> str:
    """Replace one entry of `base` in the YAML text; comments stay as they are."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)  # it was read before
    for key, value in root.value:
        entries = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for entry in entries if key.value == BASE else ():
            if entry.value == old:
                return text[: entry.start_mark.index] + new + text[entry.end_mark.index :]
    return text
