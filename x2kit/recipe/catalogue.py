"""Recipe files with the recipes that they start from. Each file is read once, its bases before it."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

import yaml

import x2kit
from x2kit.errors import Fault, RecipeError
from x2kit.model.saved_recipe import holds_saved_recipe
from x2kit.recipe.yaml_text import Node, parse

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


SUFFIX = ".yaml"


@dataclass(frozen=True)
class RecipeFile:
    """A file that holds a recipe.

    Attributes:
        path: where it lies.
        shown: how it is called in messages.
        name: its name in the catalogue; None for a file of the user's.
    """

    path: Path
    shown: str
    name: str | None = None

    @property
    def label(self) -> str:
        """A short name without folders and suffix, fit for a run directory."""
        return self.name.replace("/", "-") if self.name else self.path.stem


def folder() -> Path:
    """Where the shipped recipes lie."""
    package = Path(x2kit.__file__).parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def shipped() -> list[RecipeFile]:
    """All shipped recipes and overlays, by name."""
    root = folder()
    names = sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*" + SUFFIX))
    return [_shipped(name) for name in names]


def is_overlay(file: RecipeFile) -> bool:
    """Whether the file only changes other recipes."""
    return (file.name or "").startswith("overlays/")


def find(name: str | Path, beside: RecipeFile | None = None, fault: Fault | None = None) -> RecipeFile:
    """The recipe file of a path or of a shipped name.

    Args:
        name: a path, relative to the file `beside` if there is one, or the name of a shipped recipe.
        beside: the file that names it as its base.
        fault: key and place to blame when there is no such file.
    Raises: RecipeError that says what was looked for and what is near.
    """
    written = Path(name).expanduser()
    path = beside.path.parent / written if beside else written
    if os.path.isfile(path):  # noqa: PTH113  # Path.is_file() raises for names that no file can have
        return _file(path, written, beside)
    text = Path(name).as_posix()
    known = [file.name for file in shipped() if file.name]
    if text in known:
        return _shipped(text)
    blame = fault or Fault("", str(name), "")
    if os.path.isdir(path):  # noqa: PTH112
        raise RecipeError([Fault(blame.key, blame.place, f"{path} is a folder, not a recipe file")])
    found = (
        f"no file {path} and no shipped recipe of this name"
        if fault
        else "no such file and no shipped recipe of this name"
    )
    near = difflib.get_close_matches(text.removesuffix(SUFFIX), known, n=1)
    nearest = f"; nearest: {near[0]}" if near else ""
    raise RecipeError([Fault(blame.key, blame.place, f"{found}{nearest}\n  see: x2kit recipes list")])


def _file(path: Path, written: Path, beside: RecipeFile | None) -> RecipeFile:
    root = folder()
    if path.resolve().is_relative_to(root.resolve()) and path.suffix == SUFFIX:
        return _shipped(path.resolve().relative_to(root.resolve()).with_suffix("").as_posix())
    if beside is None or written.is_absolute():
        return RecipeFile(path, str(written))
    return RecipeFile(path, os.path.normpath(Path(beside.shown).parent / written))


def _shipped(name: str) -> RecipeFile:
    return RecipeFile(folder() / (name + SUFFIX), f"recipes/{name}{SUFFIX}", name)


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
