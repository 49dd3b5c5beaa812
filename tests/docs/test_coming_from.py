"""What the pages for people who come from other code name of ours exists, and so does what they name of OpenCLIP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from x2kit.cli import VERBS
from x2kit.plugin.components import KINDS
from x2kit.plugin.manager import load_plugins
from x2kit.recipe.catalogue import folder, shipped
from x2kit.recipe.shapes import ROOT as RECIPE
from x2kit.recipe.shapes import SECTIONS, Component, Entries, Section, below

from .pages import DOCS

PAGES = sorted((DOCS / "coming-from").glob("*.md"))
REGISTRY = load_plugins().registry
SETTINGS = {
    kind: {
        name for entry in REGISTRY if entry.component.kind == kind for name in entry.component.model_fields
    }
    for kind in KINDS
}
"""Names of settings by kind of component."""


def rows(page: Path) -> Iterator[tuple[str, str]]:
    """First and last cell of the lines of its tables: theirs and ours."""
    for line in re.findall(r"^\| (.+) \|$", page.read_text(encoding="utf-8"), re.MULTILINE):
        cells = line.split(" | ")
        yield cells[0], cells[-1]


def ours(page: Path) -> list[str]:
    """What stands in code font in the column of ours."""
    return [name for _, cell in rows(page) for name in re.findall(r"`([^`]+)`", cell)]


def is_key(path: list[str]) -> bool:
    """Whether a recipe has such a key; settings of components are those of any component of the kind."""
    shape = below(RECIPE, path[0])
    for place, name in enumerate(path[1:], 1):
        if isinstance(shape, Component):
            return name in SETTINGS[shape.kind] and place == len(path) - 1
        if isinstance(shape, Section) and name not in shape.model.model_fields:
            return False
        if not isinstance(shape, Section | Entries):
            return False
        shape = below(shape, name)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_recipe_key_exists(page: Path) -> None:
    named = [name.split(" ")[0].removeprefix("--") for name in ours(page)]
    keys = [name for name in named if re.fullmatch(rf"({'|'.join(SECTIONS)})(\.\w+)+", name)]
    assert keys
    assert not [key for key in keys if not is_key(key.split("."))]


@pytest.mark.parametrize(
    "path", ["training.rate", "data.streams.S.masking.probability", "model.vision.colour"]
)
def test_a_key_that_is_not_there_is_found(path: str) -> None:
    assert not is_key(path.split("."))
    assert is_key(["training", "lr"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_recipe_component_and_verb_exists(page: Path) -> None:
    names = ours(page) + re.findall(r"`([^`|]+/[^`]+)`", page.read_text(encoding="utf-8"))
    groups = {place.name for place in folder().iterdir()}
    recipes = {str(file.name) for file in shipped()}
    of_recipes = {name for name in names if name.split("/")[0] in groups}
    assert of_recipes <= recipes, of_recipes - recipes
    verbs = [name.split(" ")[1] for name in ours(page) if name.startswith("x2kit ")]
    assert verbs
    assert set(verbs) <= set(VERBS)
    registered = {entry.component.component_name() for entry in REGISTRY}
    bases = {base.__name__ for base in KINDS.values()}
    capitals = {name for name in ours(page) if re.fullmatch(r"[A-Z][a-z]+\w*", name)}
    assert capitals - bases - {"ImageSpec"} <= registered, capitals - registered


def test_every_option_of_openclip_is_one_of_the_installed_version() -> None:
    """Their file is read, not imported: it wants packages for training that are not needed here."""
    import open_clip_train

    known = (Path(open_clip_train.__path__[0]) / "params.py").read_text(encoding="utf-8")
    text = (DOCS / "coming-from" / "openclip-and-lavis.md").read_text(encoding="utf-8")
    table = text.partition("## Options of OpenCLIP")[2].partition("\n## ")[0]
    options = [
        option for cell in re.findall(r"^\| (.+?) \| ", table, re.MULTILINE)
        for option in re.findall(r"--[a-z][a-z\d-]+", cell)
    ]  # fmt: skip
    assert len(options) > 40
    assert not [option for option in options if f'"{option}"' not in known]
