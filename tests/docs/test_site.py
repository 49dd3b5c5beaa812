"""The site builds, without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import DOCS, README, ROOT


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The site, and what building it said."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # a notice of the theme's authors
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return site, done.stderr


def test_every_page_is_on_the_site_and_nothing_is_warned_of(built: tuple[Path, str]) -> None:
    site, said = built
    assert "WARNING" not in said
    for page in DOCS.rglob("*.md"):
        if page.is_relative_to(DOCS / "plugins"):  # distributions, each with a README of its own
            continue
        place = page.relative_to(DOCS).with_suffix("")
        folder = place.parent if place.name == "index" else place
        assert (site / folder / "index.html").is_file(), f"{place} is not on the site"


def test_the_way_through_the_site_is_the_one_that_its_first_page_shows() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    learn = navigation.partition("Learn, in this order:\n")[2].partition("\n  - ")[0]
    first = (DOCS / "index.md").read_text(encoding="utf-8")
    shown = first.partition("## Learn, in this order\n")[2].partition("\n## ")[0]
    steps = re.findall(r"- (.+): (.+\.md)", learn)
    assert steps == re.findall(r"^\d\. \[(.+?)\]\((.+?)\)", shown, re.MULTILINE)
    assert {page for _, page in steps} >= {
        page.relative_to(DOCS).as_posix() for page in (DOCS / "tutorials").glob("*.md")
    }


def test_a_reader_of_the_site_loads_nothing_from_elsewhere(built: tuple[Path, str]) -> None:
    loads = re.compile(r"<(?:script|img|link rel=\"stylesheet\")[^>]*(?:src|href)=\"(?:https?:)?//")
    pages = list(built[0].rglob("*.html"))
    assert pages
    for page in pages:
        assert not loads.search(page.read_text(encoding="utf-8")), page


def test_the_readme_keeps_a_place_for_the_result() -> None:
    readme = README.read_text(encoding="utf-8")
    assert readme.index("<!-- quickstart table -->") < readme.index("<!-- /quickstart table -->")
    assert "make quickstart" in readme
    assert "make test" in readme
