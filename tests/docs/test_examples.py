"""Every fenced block of the README, the tutorials and the guides runs; see shell.py."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .pages import DOCS, README, ROOT, Block, blocks
from .shell import Page

ELSEWHERE = {DOCS / "tutorials" / "a-plugin-for-your-domain.md"}
"""Run in an environment of their own: test_domain_plugin.py."""
SLOW = {
    DOCS / "how-to" / f"{name}.md"
    for name in (
        "adapt-to-a-domain",
        "add-languages",
        "choose-an-optimizer",
        "choose-encoders",
        "deploy-a-model",
        "freeze-and-adapt",
        "publish-a-model",
        "swap-the-text-encoder",
        "write-a-plugin",
    )
}
"""Pages with several trainings or new processes: 10 to 30 seconds each."""
FOLDERS = ("tutorials", "how-to", "coming-from")
RUN = [
    page
    for page in (
        README,
        *(page for folder in FOLDERS for page in sorted((DOCS / folder).glob("*.md"))),
        DOCS / "troubleshooting.md",
    )
    if page not in ELSEWHERE
]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page, id=page.relative_to(ROOT).as_posix(), marks=[pytest.mark.slow] if page in SLOW else []
        )
        for page in RUN
    ],
)
def test_every_block_of_the_page_runs(
    page: Path, quickstart: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(quickstart, tmp_path, dirs_exist_ok=True)
    session = Page(tmp_path, monkeypatch)
    found = list(blocks(page))
    assert found
    for block in found:
        session.run(block)


def console(text: str) -> Block:
    return Block("console", None, text, 1)


@pytest.mark.parametrize(
    "block",
    [
        Block("bash", None, "x2kit recipes show quickstart/multilingul\n", 1),
        Block("bash", None, "make nothing\n", 1),
        Block("bash", None, "rm -r runs\n", 1),
        Block("yaml", None, "training: {}\n", 1),
        console("$ x2kit plugins list --kind fusion\nNAME KIND\n"),
        console("$ x2kit recipes show quickstart/multilingul\n...\n"),
    ],
    ids=["a command fails", "no such rule", "another command", "a language", "other output", "half an error"],
)
def test_a_wrong_block_fails(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AssertionError):
        Page(tmp_path, monkeypatch).run(block)


def test_help_that_exits_is_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Page(tmp_path, monkeypatch).run(
        console("$ x2kit convert --help\nusage: x2kit [options] convert...\n...\n")
    )
