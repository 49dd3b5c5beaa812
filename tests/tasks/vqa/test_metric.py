"""VQA accuracy and exact match by hand, beside the naive form of the official definition."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest

from x2kit.tasks.vqa.metric import (
    exact_match,
    measure_answers,
    measure_choices,
    normalise_answer,
    results_file,
    strip_punctuation,
    vqa_accuracy,
)


def plain_accuracy(answer: str, annotated: Sequence[str]) -> float:
    """Every annotator left out in turn."""
    scores = []
    for place in range(len(annotated)):
        others = [*annotated[:place], *annotated[place + 1 :]]
        scores.append(min(others.count(answer) / 3, 1))
    return sum(scores) / len(scores)


@pytest.mark.parametrize("agreeing", range(11))
def test_the_accuracy_leaves_out_one_annotator_at_a_time(agreeing: int) -> None:
    annotated = ["cat"] * agreeing + ["dog"] * (10 - agreeing)
    assert vqa_accuracy("cat", annotated) == pytest.approx(plain_accuracy("cat", annotated))


@pytest.mark.parametrize(
    ("agreeing", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)]
)
def test_known_accuracies(agreeing: int, accuracy: float) -> None:
    assert vqa_accuracy("cat", ["cat"] * agreeing + ["dog"] * (10 - agreeing)) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("answer", "normalised"),
    [
        ("A dog.", "dog"),
        ("the", ""),
        ("two", "2"),
        ("none", "0"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),
        ("t-shirt", "t shirt"),
        ("black / white", "black white"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        (" yes\n", "yes"),
        ("", ""),
    ],
)
def test_normalised_predictions(answer: str, normalised: str) -> None:
    assert normalise_answer(answer) == normalised


def test_a_sign_that_a_space_touches_is_removed_everywhere() -> None:
    assert strip_punctuation("a-b") == "a b"
    assert strip_punctuation("a-b -c") == "ab c"


def test_annotated_answers_keep_their_punctuation_if_all_are_equal() -> None:
    assert vqa_accuracy("stop", ["stop."] * 10) == 0
    assert vqa_accuracy("stop", ["stop."] * 9 + ["halt"]) == 1


def test_annotated_answers_keep_numbers_and_articles() -> None:
    assert vqa_accuracy("ten", ["ten"] * 10) == 0
    assert vqa_accuracy("ten", ["10"] * 10) == 1


def test_an_empty_prediction_scores_only_against_empty_answers() -> None:
    assert vqa_accuracy("", ["yes"] * 10) == 0
    assert vqa_accuracy("", [""] * 10) == 1


def test_exact_match_compares_letters() -> None:
    assert exact_match("dog", ["dog"]) == 1
    assert exact_match("Dog", ["dog"]) == 0
    assert exact_match("cat", ["dog", "cat"]) == 1


ANNOTATED = [["yes"] * 10, ["no"] * 10, ["yes"] * 10, ["2"] * 10]


def test_accuracy_stands_beside_chance_and_the_most_frequent_answer() -> None:
    found = measure_answers(["yes", "no", "no", "3"], ANNOTATED, ["yes", "no", "2", "3"], exact_match)
    assert found == {
        "accuracy": 0.5,
        "chance": 0.25,
        "most_frequent": 0.5,
        "most_frequent_answer": "yes",
        "questions": 4,
        "annotated_questions": 4,
    }


@pytest.mark.parametrize("metric", [vqa_accuracy, exact_match])
def test_chance_is_the_mean_over_all_candidates(metric: object) -> None:
    annotated = [["a dog", "dog", "2"], ["two", "2", "2"], ["stop."] * 3]
    candidates = ["two", "2", "dog", "the dog", "stop", "none"]
    scores = [metric(answer, right) for answer, right in product(candidates, annotated)]  # type: ignore[operator]
    found = measure_answers(["x"] * 3, annotated, candidates, metric)  # type: ignore[arg-type]
    assert found["chance"] == pytest.approx(sum(scores) / len(scores))


def test_questions_without_answers_are_counted_and_not_scored() -> None:
    found = measure_answers(["yes", "no"], [["yes"], []], (), exact_match)
    assert (found["accuracy"], found["questions"], found["annotated_questions"]) == (1.0, 2, 1)
    assert found["chance"] is None
    assert measure_answers(["yes"], [[]], ("yes",), exact_match)["accuracy"] is None


def test_choices_are_measured_by_position() -> None:
    found = measure_choices([0, 4, 2, 2], [0, 3, 2, 2], 5)
    assert (found["accuracy"], found["chance"], found["most_frequent"]) == (0.75, pytest.approx(0.2), 0.5)


def test_the_results_file_has_each_question_once_and_numbers_as_numbers() -> None:
    assert results_file(["12", "q-1", "12"], ["yes", "no", "yes"]) == [
        {"question_id": 12, "answer": "yes"},
        {"question_id": "q-1", "answer": "no"},
    ]
