"""Answer lists from files and recipes, and the weights of annotated answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from x2kit.errors import DataError
from x2kit.tasks.vqa.answers import answer_weights, read_answers


def written(directory: Path, content: Any) -> str:
    file = directory / "answers.json"
    file.write_text(json.dumps(content))
    return str(file)


def test_a_list_keeps_its_order(tmp_path: Path) -> None:
    assert read_answers(written(tmp_path, ["yes", "no", ""])) == ("yes", "no", "")


def test_a_recipe_may_hold_the_answers() -> None:
    assert read_answers(("yes", "no")) == ("yes", "no")


def test_an_object_is_ordered_by_class(tmp_path: Path) -> None:
    assert read_answers(written(tmp_path, {"no": 1, "yes": 0})) == ("yes", "no")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"yes": 0, "no": 2}, "expected the classes 0 to 1, each once"),
        (["yes", "no", "yes"], "'yes' occurs more than once"),
        (["yes", 1], "expected a list of texts"),
        ([], "expected a list of texts"),
        ("yes", "expected a list of texts"),
        ({"yes": 0.5}, "expected a list of texts"),
    ],
)
def test_files_that_are_no_answer_list(tmp_path: Path, content: Any, message: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(DataError, match=message) as error:
        read_answers(file)
    assert file in str(error.value)


def test_a_file_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    missing, broken = tmp_path / "missing.json", tmp_path / "broken.json"
    broken.write_text("[")
    for file in (missing, broken):
        with pytest.raises(DataError, match=str(file)):
            read_answers(str(file))


def test_an_answer_weighs_its_share() -> None:
    assert answer_weights(["yes"] * 7 + ["no"] * 3) == {"yes": 0.7, "no": 0.3}
    assert answer_weights(["red", "blue"]) == {"red": 0.5, "blue": 0.5}


def test_given_weights_are_kept() -> None:
    assert answer_weights({"a man": 0.5}) == {"a man": 0.5}
