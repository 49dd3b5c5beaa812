"""Whatever a user or an author can name has its place in the docs: nothing is listed here by hand but the pages."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jsonargparse
import pytest
from pydantic import BaseModel

from x2kit import errors, plugin
from x2kit.cli import SUBCOMMANDS
from x2kit.plugin.components import KINDS
from x2kit.plugin.loading.admission import hook_names
from x2kit.plugin.loading.manager import load_plugins
from x2kit.recipe.catalogue import shipped
from x2kit.recipe.shapes import ROOT as RECIPE
from x2kit.recipe.shapes import Entries, Section, Shape, below

from .pages import DOCS, blocks, pages, prose

FREE = "[A-Z]+"
"""What stands for a name that a recipe chooses: `data.streams.STREAM`."""


class Place(NamedTuple):
    """Where a thing must stand.

    Attributes:
        what: it is, for messages.
        page: of `docs/reference`.
        heading: it stands under, a pattern.
        row: first cell of its line in a table there; empty where the heading is all.
    """

    what: str
    page: str
    heading: str
    row: str = ""


def hooks() -> Iterator[Place]:
    for name in hook_names():
        yield Place(f"hook {name}", "hooks.md", name)


def kinds() -> Iterator[Place]:
    for base in KINDS.values():
        yield Place(f"base class {base.__name__}", "hooks.md", base.__name__)


def keys(shape: Shape = RECIPE, path: str = "") -> Iterator[Place]:
    if isinstance(shape, Entries):
        yield from keys(shape.of, f"{path}\\.{FREE}")
    elif isinstance(shape, Section):
        for name in shape.model.model_fields:
            heading = f"`{path}`" if path else "The recipe"
            yield Place(f"key {path}.{name}".replace("\\", ""), "recipe-keys.md", heading, f"`{name}`")
            yield from keys(below(shape, name), f"{path}\\.{name}" if path else name)


def components() -> Iterator[Place]:
    for entry in load_plugins().registry:
        if entry.distribution.startswith("x2kit "):
            name = entry.component.component_name()
            yield Place(f"{entry.component.kind} component {name}", "components.md", name)
            for setting in _settings(entry.component):
                yield Place(f"setting {name}.{setting}", "components.md", name, f"`{setting}`")


def _settings(model: type[BaseModel]) -> Iterator[str]:
    for name in model.model_fields:
        inner = below(Section(model), name)
        yield from [name, *(_settings(inner.model) if isinstance(inner, Section) else ())]


def subcommands() -> Iterator[Place]:
    modules = {subcommand: f"x2kit.cli.{subcommand}" for subcommand in SUBCOMMANDS}
    brought = [
        subcommand
        for subcommand in load_plugins().subcommands
        if subcommand.distribution.startswith("x2kit ")
    ]
    assert brought
    for subcommand, module in {
        **modules,
        **{subcommand.name: subcommand.module for subcommand in brought},
    }.items():
        parser = jsonargparse.ArgumentParser()
        importlib.import_module(module).add_arguments(parser)
        yield from _subcommand(f"x2kit {subcommand}", parser)


def _subcommand(heading: str, parser: jsonargparse.ArgumentParser) -> Iterator[Place]:
    yield Place(f"subcommand {heading}", "cli.md", heading)
    for action in parser._actions:
        for name, inner in (getattr(action, "_name_parser_map", None) or {}).items():
            yield from _subcommand(f"{heading} {name}", inner)
        for option in action.option_strings:
            if action.dest != "help":
                yield Place(f"option {heading} {option}", "cli.md", heading, f"`{option}")


def error_classes() -> Iterator[Place]:
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.X2KitError):
            yield Place(f"error {name}", "errors.md", name)
    for reason in errors.Reason:
        yield Place(f"reason {reason.name}", "errors.md", "Reason", f"`{reason.name}`")


def recipes() -> Iterator[Place]:
    for file in shipped():
        folder = str(file.name).partition("/")[0]
        yield Place(f"recipe {file.name}", "recipes.md", f"`{folder}/`", f"`{file.name}`")


INVENTORY: tuple[Callable[[], Iterator[Place]], ...] = (
    *(hooks, kinds, keys, components, subcommands, error_classes, recipes),
)


def without_a_place(places: Iterator[Place], reference: Path) -> list[str]:
    """What is missing where it must stand."""
    texts = {page.name: page.read_text(encoding="utf-8") for page in reference.glob("*.md")}
    return [place.what for place in places if not _stands(place, texts[place.page])]


def _stands(place: Place, text: str) -> bool:
    level, section = "", ""
    if found := re.search(rf"^(#+) {place.heading}\n", text, re.MULTILINE):
        level = found[1]
        section = re.split(rf"^#{{1,{len(level)}}} ", text[found.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| (.*?)(?<!\\) \|", section, re.MULTILINE)
    return bool(level) and any(_begins(cell, place.row) for cell in rows or [""])


def _begins(cell: str, row: str) -> bool:
    """Whether a cell names it: whole, or as one of several options, each with its value."""
    names = [name.partition(" ")[0].rstrip("`") for name in cell.split(", ")]
    return not row or row.rstrip("`") in names


@pytest.mark.parametrize("inventory", INVENTORY, ids=lambda inventory: inventory.__name__)
def test_nothing_is_without_a_place(inventory: Callable[[], Iterator[Place]]) -> None:
    assert list(inventory())
    missing = without_a_place(inventory(), DOCS / "reference")
    assert not missing, f"run python docs/generate.py; not in docs/reference: {missing}"


@pytest.mark.parametrize("inventory", INVENTORY, ids=lambda inventory: inventory.__name__)
def test_what_is_taken_off_its_page_is_missed(
    inventory: Callable[[], Iterator[Place]], tmp_path: Path
) -> None:
    """Of every page some lines are taken away, each a place of its own."""
    places = list(inventory())
    standing = [place for place in places if not without_a_place(iter([place]), DOCS / "reference")]
    for place in standing[:: max(1, len(standing) // 8)]:
        for page in (DOCS / "reference").glob("*.md"):
            (tmp_path / page.name).write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
        text = (tmp_path / place.page).read_text(encoding="utf-8")
        without = re.sub(rf"^#+ {place.heading}\n", "", text, count=1, flags=re.MULTILINE)
        if place.row:
            without = re.sub(rf"^\| .*{re.escape(place.row)}.*\n", "", text, flags=re.MULTILINE)
        (tmp_path / place.page).write_text(without, encoding="utf-8")
        assert place.what in without_a_place(iter(places), tmp_path)


def test_every_name_of_the_plugin_api_is_told_of() -> None:
    told = "\n".join(prose(page) + "\n".join(block.text for block in blocks(page)) for page in pages())
    missing = [name for name in plugin.__all__ if not re.search(rf"\b{name}\b", told)]
    assert not missing, f"x2kit.plugin exports {missing}, and no page says a word of them"
