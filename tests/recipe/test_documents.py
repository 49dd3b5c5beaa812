from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from x2kit.errors import RecipeError
from x2kit.recipe import read_recipe
from x2kit.recipe.catalogue import read_documents

Write = Callable[[str, str], Path]


def refusal(name: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read_documents(name)
    return str(caught.value)


def test_bases_come_before_the_file_in_their_order(write: Write) -> None:
    write("a.yaml", "training: {steps: 1}\n")
    write("b.yaml", "base: a.yaml\ntraining: {steps: 2}\n")
    write("c.yaml", "training: {steps: 3}\n")
    write("d.yaml", "base: [b.yaml, c.yaml]\ntraining: {steps: 4}\n")
    file, documents = read_documents("d.yaml")
    assert file.label == "d"
    assert [document.plain() for document in documents] == [{"training": {"steps": n}} for n in (1, 2, 3, 4)]


def test_a_base_is_relative_to_its_file(write: Write) -> None:
    write("sub/a.yaml", "training: {steps: 1}\n")
    write("sub/b.yaml", "base: a.yaml\n")
    assert len(read_documents("sub/b.yaml")[1]) == 2


def test_a_name_that_no_file_can_have_is_missing_like_any_other(write: Write) -> None:
    name = "x" * 5000
    write("a.yaml", f"base: {name}\n")
    assert "no file " in refusal("a.yaml")
    assert "no such file" in refusal(name)
    for plugin in (name, f"{name}.py"):
        write("b.yaml", f"base: good.yaml\nplugins: [{plugin}]\n")
        with pytest.raises(RecipeError, match=r"b.yaml:2: plugins: plugin '.*x+"):
            read_recipe(["b.yaml"])
    text: Any = read_recipe(["good.yaml"], [("model.text.pretrained", name)]).recipe.model.text
    assert text.pretrained == name


def test_a_base_may_be_a_shipped_recipe(write: Write) -> None:
    write("mine.yaml", "base: overlays/bf16\n")
    assert read_documents("mine.yaml")[1][0].child("training") is not None


def test_the_base_of_an_overlay_is_merged_too(write: Write) -> None:
    write("a.yaml", "training: {lr: 0.5}\n")
    write("b.yaml", "base: a.yaml\ntraining: {steps: 7}\n")
    training = read_recipe(["good.yaml", "b.yaml"]).recipe.training
    assert (training.lr, training.steps) == (0.5, 7)


def test_circular_bases_are_refused_with_their_chain(write: Write) -> None:
    write("a.yaml", "base: b.yaml\n")
    write("b.yaml", "\nbase: ./a.yaml\n")
    assert refusal("a.yaml") == "b.yaml:2: base: circular bases: a.yaml → b.yaml → a.yaml"


def test_a_base_reached_twice_is_not_circular(write: Write) -> None:
    write("a.yaml", "training: {steps: 1}\n")
    write("b.yaml", "base: a.yaml\n")
    write("c.yaml", "base: [a.yaml, b.yaml]\n")
    assert len(read_documents("c.yaml")[1]) == 4


def test_a_missing_base_is_refused_with_the_place_that_names_it(write: Write) -> None:
    write("sub/a.yaml", "training: {steps: 1}\nbase: overlays/bf61\n")
    assert refusal("sub/a.yaml") == (
        "sub/a.yaml:2: base: no file sub/overlays/bf61 and no shipped recipe of this name; "
        "nearest: overlays/bf16\n"
        "  see: x2kit recipes list"
    )


def test_a_base_must_be_a_name(write: Write) -> None:
    write("a.yaml", "base: {x: 1}\n")
    assert refusal("a.yaml") == "a.yaml:1: base: should be the name or path of a recipe, or a list of these"


def test_a_missing_recipe_is_refused_with_the_nearest_shipped_one() -> None:
    assert refusal("overlays/xmlr") == (
        "overlays/xmlr: no such file and no shipped recipe of this name; nearest: overlays/xlmr\n"
        "  see: x2kit recipes list"
    )


def test_a_folder_is_refused(write: Write) -> None:
    write("folder/a.yaml", "")
    assert refusal("folder") == "folder: folder is a folder, not a recipe file"
