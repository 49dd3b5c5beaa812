"""The site builds without warnings, with every page and every public name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from .pages import DOCS, README, ROOT

API = [
    *(
        "x2kit.inference",
        "x2kit.model",
        "x2kit.recipe",
        "x2kit.training",
        "x2kit.evaluation",
        "x2kit.objectives",
    ),
    *("x2kit.plugin", "x2kit.testing"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the site, and the log of the build."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # a notice of the theme's authors
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return site, done.stderr


def test_every_page_is_on_the_site_without_warnings(built: tuple[Path, str]) -> None:
    site, said = built
    assert "WARNING" not in said
    for page in DOCS.rglob("*.md"):
        if page.is_relative_to(DOCS / "plugins"):  # distributions, each with a README of its own
            continue
        place = page.relative_to(DOCS).with_suffix("")
        folder = place.parent if place.name == "index" else place
        assert (site / folder / "index.html").is_file(), f"{place} is not on the site"


def test_every_public_name_is_in_the_python_api(built: tuple[Path, str]) -> None:
    for module in API:
        page = built[0] / "reference/python" / module.rpartition(".")[2] / "index.html"
        text = page.read_text(encoding="utf-8")
        missing = [name for name in import_module(module).__all__ if f'id="{module}.{name}"' not in text]
        assert not missing, f"{module}: {missing}"


def test_every_extra_is_on_the_page_of_installation() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = re.findall(r"^\| `(\w+)` \|", (DOCS / "installation.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(extras["optional-dependencies"]) <= set(rows)


def test_the_site_loads_nothing_from_other_hosts(built: tuple[Path, str]) -> None:
    loads = re.compile(r"<(?:script|img|link rel=\"stylesheet\")[^>]*(?:src|href)=\"(?:https?:)?//")
    pages = list(built[0].rglob("*.html"))
    assert pages
    for page in pages:
        assert not loads.search(page.read_text(encoding="utf-8")), page


def test_the_readme_has_the_markers_of_the_result_table() -> None:
    readme = README.read_text(encoding="utf-8")
    assert readme.index("<!-- quickstart table -->") < readme.index("<!-- /quickstart table -->")
    assert "make quickstart" in readme
    assert "make test" in readme
