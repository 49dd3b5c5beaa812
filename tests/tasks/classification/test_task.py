"""Classification: rows of records, pairs of text and image, accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from x2kit.errors import DataError, Reason
from x2kit.model.config import HeadsConfig
from x2kit.plugin.tasks import Prediction
from x2kit.tasks import Classification

NLVR2 = Classification(classes=(False, True), images=2)
TOGETHER = Classification(classes=(False, True), images=2, fused="together")
XVNLI = Classification(classes=("contradiction", "entailment", "neutral"))


class PlainReader:
    """Fields as they are."""

    training = True
    rng = np.random.default_rng(0)

    def image(self, value: Any, may_flip: bool = True) -> Any:
        return value

    def video(self, value: Any) -> Any:
        return [value]

    def text(self, text: Any, raw: bool = False) -> str:
        return str(text)


def test_a_sentence_is_fused_with_each_image_or_with_both_at_once() -> None:
    assert NLVR2.pairs == ((0, 0), (0, 1))
    assert TOGETHER.pairs == ((0, (0, 1)),)
    assert XVNLI.pairs == ((0, 0),)


@pytest.mark.parametrize(
    ("task", "heads", "missing"),
    [
        (NLVR2, HeadsConfig(answers=2, answer_images=2), {}),
        (TOGETHER, HeadsConfig(answers=2), {}),
        (XVNLI, HeadsConfig(answers=3), {}),
        (XVNLI, HeadsConfig(), {"answers": "should be 3, the number of classes, found None"}),
        (
            NLVR2,
            HeadsConfig(answers=2),
            {"answer_images": "should be 2 for images that are fused separately, found 1"},
        ),
        (
            TOGETHER,
            HeadsConfig(answers=2, answer_images=2),
            {"answer_images": "should be 1 for images that are fused together, found 2"},
        ),
    ],
)
def test_the_answer_head_fits_classes_and_images(
    task: Classification, heads: HeadsConfig, missing: dict[str, str]
) -> None:
    assert task.missing_heads(heads) == missing


def test_a_row_has_all_images_and_the_number_of_its_class() -> None:
    row = NLVR2.build().draw({"images": ["a", "b"], "caption": "two dogs", "label": True}, PlainReader())
    assert (row.images, row.texts, row.targets, row.truth) == (["a", "b"], ["two dogs"], {"label": 1}, True)
    row = XVNLI.build().draw({"image": "a", "caption": "a dog", "label": "neutral"}, PlainReader())
    assert (row.images, row.targets, row.truth) == (["a"], {"label": 2}, "neutral")
    row = XVNLI.build().draw({"video": "a", "caption": "a dog", "label": "neutral"}, PlainReader())
    assert row.images == [["a"]]


@pytest.mark.parametrize(
    ("task", "changed", "said", "reason"),
    [
        (
            XVNLI,
            {"label": "-"},
            "expected one of 'contradiction', 'entailment', 'neutral', found '-'",
            "FIELD_TYPE",
        ),
        (XVNLI, {"label": None}, "found None", "FIELD_MISSING"),
        (XVNLI, {"caption": None}, "no caption, the sentence to classify", "FIELD_MISSING"),
        (XVNLI, {"image": None}, "no image, but the task reads 1", "FIELD_MISSING"),
        (NLVR2, {"label": 1}, "expected one of False, True, found 1", "FIELD_TYPE"),
        (NLVR2, {"label": True}, "no images, but the task reads 2", "FIELD_MISSING"),
        (NLVR2, {"label": True, "images": ["a"]}, "images: expected 2, found 1", "FIELD_TYPE"),
    ],
)
def test_a_broken_record_is_named(
    task: Classification, changed: dict[str, Any], said: str, reason: str
) -> None:
    record: Any = {"image": "a", "caption": "a dog", "label": "neutral", **changed}
    with pytest.raises(DataError, match=said) as error:
        task.build().draw(record, PlainReader())
    assert error.value.reason == Reason[reason]


def test_a_record_without_a_label_is_predicted_and_not_scored() -> None:
    reader = PlainReader()
    reader.training = False
    task = XVNLI.build()
    row = task.draw({"image": "a", "caption": "a dog"}, reader)
    assert (row.targets, row.truth) == ({}, None)
    with pytest.raises(DataError, match="found '-'"):
        task.draw({"image": "a", "caption": "a dog", "label": "-"}, reader)
    found = task.measure([Prediction("1", "neutral", None), Prediction("2", "neutral", "neutral")])
    assert (found["accuracy"], found["rows"], found["unlabelled_rows"]) == (1.0, 1, 1)
    alone = task.measure([Prediction("1", "neutral", None)])
    assert (alone["accuracy"], alone["most_frequent"], alone["rows"]) == (None, None, 0)


def test_accuracy_stands_beside_chance_and_the_most_frequent_class() -> None:
    given = [
        ("neutral", "neutral"),
        ("entailment", "neutral"),
        ("entailment", "entailment"),
        ("neutral", "neutral"),
    ]
    found = XVNLI.build().measure([Prediction(str(n), *pair) for n, pair in enumerate(given)])
    assert found == {
        "accuracy": 0.75,
        "chance": pytest.approx(1 / 3),
        "most_frequent": 0.75,
        "correct": 3,
        "rows": 4,
    }


@pytest.mark.parametrize(
    "settings", [{"classes": [True]}, {"classes": ["a", "a"]}, {"classes": [0, 1], "images": 0}]
)
def test_settings_out_of_bounds_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Classification.model_validate(settings)


def test_false_and_0_are_different_classes() -> None:
    assert Classification(classes=(False, 0)).build().draw(
        {"image": "a", "caption": "a dog", "label": 0}, PlainReader()
    ).targets == {"label": 1}
