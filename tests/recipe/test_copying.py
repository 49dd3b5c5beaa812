from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from x2kit.errors import RecipeError
from x2kit.recipe.catalogue import copy_recipe, find, read_documents

Write = Callable[[str, str], Path]


def test_a_copy_has_every_byte_of_the_recipe(write: Write) -> None:
    file = copy_recipe("overlays/xlmr", Path("new/mine.yaml"))
    assert file == Path("new/mine.yaml")
    assert file.read_bytes() == find("overlays/xlmr").path.read_bytes()


def test_a_folder_as_target_keeps_the_name(write: Write) -> None:
    Path("folder").mkdir()
    assert copy_recipe("overlays/bf16", Path("folder")) == Path("folder/bf16.yaml")


def test_an_existing_file_is_not_overwritten(write: Write) -> None:
    write("mine.yaml", "precious")
    with pytest.raises(RecipeError, match=r"^mine\.yaml: file exists; choose another name$"):
        copy_recipe("overlays/bf16", Path("mine.yaml"))
    assert Path("mine.yaml").read_text() == "precious"


def test_bases_that_are_relative_paths_become_names(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("x2kit/recipes/a/first.yaml", "training: {steps: 1}\n")
    write(
        "x2kit/recipes/b/second.yaml",
        "# base: ../a/first.yaml is short\nbase: [../a/first.yaml, a/first]  # x\n",
    )
    monkeypatch.setattr("x2kit.recipe.catalogue.PACKAGE", tmp_path / "x2kit")
    copy_recipe("b/second", Path("mine.yaml"))
    assert (
        Path("mine.yaml").read_text() == "# base: ../a/first.yaml is short\nbase: [a/first, a/first]  # x\n"
    )
    assert len(read_documents("mine.yaml")[1]) == 3
