"""Plugins import from x2kit only what is promised to every plugin author."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest

from x2kit.plugin import toolkit

ROOT = Path(__file__).parents[2]
PROMISED = {"x2kit", "x2kit.plugin", "x2kit.plugin.toolkit", "x2kit.errors"}
NAMES = {"module": "my_plugin", "class_name": "Mine", "name": "mine", "kind": "vision"}


def sources() -> list[Path]:
    """First-party plugins, the domain plugin of the docs, and the templates, without their tests."""
    templates = ROOT / "x2kit/templates/plugin"
    found = [
        *ROOT.glob("plugins/*/*.py"),
        *ROOT.glob("docs/plugins/*/x2kit_*/*.py"),
        *templates.glob("*/MODULE/*.py.tmpl"),
    ]
    return sorted(found)


def imported(code: str) -> Iterator[str]:
    """The modules of x2kit that a file imports, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("file", sources(), ids=lambda file: "/".join(file.parts[-3:]))
def test_a_plugin_imports_only_promised_modules(file: Path) -> None:
    code = Template(file.read_text(encoding="utf-8")).safe_substitute(NAMES)
    core = {name for name in imported(code) if name.split(".")[0] == "x2kit"}
    assert core <= PROMISED


def test_plugins_of_every_place_are_read() -> None:
    places = {file.relative_to(ROOT).parts[0] for file in sources()}
    assert places == {"plugins", "docs", "x2kit"}


def test_the_toolkit_lists_its_names() -> None:
    listed = [name for names in toolkit.MODULES.values() for name in names]
    assert sorted(listed) == sorted(toolkit.__all__)
    assert all(getattr(toolkit, name) is not None for name in listed)
    with pytest.raises(AttributeError, match="no attribute 'unheard'"):
        _ = toolkit.unheard


def test_every_helper_of_the_toolkit_has_a_docstring() -> None:
    for name in toolkit.__all__:
        assert name == "Shapes" or (getattr(toolkit, name).__doc__ or "").strip()
