"""Links between pages resolve, on the site and in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from .pages import DOCS, README, ROOT, anchors, links, pages


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_resolves_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: its headings are {sorted(anchors(target))}"
        if page.is_relative_to(DOCS):
            assert target.is_relative_to(DOCS), f"{link} leads out of the site"


def test_the_readme_links_to_every_guide() -> None:
    folders = ("tutorials", "how-to", "coming-from")
    wanted = [page for folder in folders for page in (DOCS / folder).glob("*.md")]
    assert {page.relative_to(ROOT).as_posix() for page in wanted} <= set(links(README))
