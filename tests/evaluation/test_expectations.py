"""Published numbers of a recipe: validated, copied to the result, printed beside it without a verdict."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.evaluation.comparison.conftest import recipe
from x2kit.evaluation.config import Expectation
from x2kit.evaluation.expectations import flat_numbers, incomparable, number_at, published_lines
from x2kit.recipe import read_recipe
from x2kit.recipe.catalogue import shipped

GIVEN: dict[str, Any] = {
    "model": "a model",
    "task": "retrieval",
    "source": "a table",
    "values": {"languages": {"en": {"image_to_text": {"r1": 0.5, "r5": 0.75}}}},
}


def test_numbers_are_nested_as_in_the_result() -> None:
    found = Expectation(**GIVEN)
    assert dict(flat_numbers(found.values)) == {
        "languages.en.image_to_text.r1": 0.5,
        "languages.en.image_to_text.r5": 0.75,
    }
    assert number_at(found.values, "languages.en.image_to_text.r5") == 0.75
    assert number_at(found.values, "languages.de.image_to_text.r5") is None
    assert number_at(found.values, "languages.en.image_to_text") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": {}}, "at least 1 item"),
        (
            {"values": {"scores": {"en": "high"}}},
            "en: expected a number or a mapping to numbers, found 'high'",
        ),
        ({"values": {"r1": True}}, "r1: expected a number"),
        ({"values": {"r1": math.inf}}, "r1: expected a number"),
        ({"source": ""}, "at least 1 character"),
        ({"records": 0}, "greater than 0"),
    ],
)
def test_wrong_expectations_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Expectation(**{**GIVEN, **change})


def test_an_expectation_names_a_task_of_the_recipe() -> None:
    with pytest.raises(
        ValidationError, match=r"expectations.mine: no task is called vqa; tasks: retrieval, ground"
    ):
        recipe(expectations={"mine": {**GIVEN, "task": "vqa"}})


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        ({}, ""),
        ({"split": "test", "records": 10}, ""),
        ({"split": "dev"}, "published for the split dev, measured on test"),
        ({"records": 5000}, "published for 5,000 records, measured on 10"),
    ],
)
def test_other_records_are_not_compared(expected: dict[str, Any], reason: str) -> None:
    assert incomparable({"split": "test"}, {"records": 10}, expected) == reason


def test_a_result_prints_differences_and_no_verdict() -> None:
    result = {
        "split": "test",
        "data": {"records": 10},
        "tasks": {"retrieval": {}},
        "languages": {"en": {"image_to_text": {"r1": 0.45}}},
        "expectations": {
            "a": {**GIVEN, "note": "read from a plot"},
            "b": {**GIVEN, "records": 5000},
            "c": {**GIVEN, "task": "gone"},
        },
    }
    assert list(published_lines(result)) == [
        "published for a model (a table), reached − published:",
        "  languages.en.image_to_text.r1 50.0: -5.0",
        "  languages.en.image_to_text.r5 75.0: not in this result",
        "  read from a plot",
        "published for a model (a table): not compared, published for 5,000 records, measured on 10",
        "intervals of these differences: x2kit results RUN",
    ]


WITH = {
    "evaluate/retrieval-coco": 3,
    "evaluate/retrieval-flickr30k": 3,
    "evaluate/retrieval-msrvtt": 2,
    "finetune/captioning-large": 1,
    "finetune/captioning-xvlm": 2,
    "finetune/captioning-xvlm-cider": 2,
    "finetune/msrvtt-qa": 1,
    "finetune/msvd-qa": 1,
    "finetune/nlvr2-base": 5,
    "finetune/nlvr2-xvlm": 4,
    "finetune/refcoco-base": 6,
    "finetune/refcoco-xvlm": 6,
    "finetune/retrieval-coco": 3,
    "finetune/retrieval-flickr30k": 3,
    "finetune/retrieval-msrvtt": 2,
    "finetune/vqa-base": 4,
    "finetune/vqa-large": 2,
}
"""Published numbers by recipe; no recipe inherits those of other records or another model."""


def files() -> list[Any]:
    return [file for file in shipped() if file.name.startswith(("evaluate/", "finetune/"))]


@pytest.mark.parametrize("file", files(), ids=lambda file: file.name)
def test_shipped_recipes_have_their_own_published_numbers(file: Any) -> None:
    evaluation = read_recipe([file.name], checks="none").recipe.evaluation
    found = evaluation.expectations or {} if evaluation else {}
    assert len(found) == WITH.get(file.name, 0)
    for one in found.values():
        assert evaluation is not None
        assert one.task in evaluation.tasks
        for path, value in flat_numbers(one.values):
            assert path.split(".")[0] in ("languages", "grounding", "scores")
            assert 0 < value <= (10 if path.endswith("cider") else 1)


def test_the_numbers_are_those_of_the_tables() -> None:
    """Checked by hand against the table of zero-shot results on COCO."""
    evaluation = read_recipe(["evaluate/retrieval-coco"], checks="none").recipe.evaluation
    assert evaluation is not None
    assert evaluation.expectations is not None
    one = evaluation.expectations["x2vlm-base-1b"]
    assert (one.model, one.records) == ("X²-VLM base 1B, zero-shot", 5000)
    assert [value for _, value in flat_numbers(one.values)] == [0.717, 0.934, 0.975, 0.583, 0.847, 0.91]
    assert "released weights" in one.source


def test_a_recipe_file_is_read_with_its_expectations(tmp_path: Path) -> None:
    """Null removes one, or all."""
    base = tmp_path / "mine.yaml"
    base.write_text("# Mine.\nbase: evaluate/retrieval-coco\nevaluation: {expectations: {xvlm-4m: null}}\n")
    evaluation = read_recipe([str(base)], checks="none").recipe.evaluation
    assert evaluation is not None
    assert list(evaluation.expectations or {}) == ["x2vlm-base-4m", "x2vlm-base-1b"]
    base.write_text("# Mine.\nbase: evaluate/retrieval-coco\nevaluation: {expectations: null}\n")
    evaluation = read_recipe([str(base)], checks="none").recipe.evaluation
    assert evaluation is not None
    assert evaluation.expectations is None
