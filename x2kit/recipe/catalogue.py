"""The recipes that x2kit ships: `recipes/` of a checkout, `x2kit/recipes` of an installed wheel."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

import x2kit
from x2kit.errors import Fault, RecipeError

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
