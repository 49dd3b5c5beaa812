"""VQA accuracy, normalisation and answer weights of the official code (tasks_more/vqa_accuracy, answer_weights)."""

from __future__ import annotations

import json
from typing import Any

from x2kit.tasks.vqa.answers import answer_weights
from x2kit.tasks.vqa.metric import measure_answers, normalise_answer, strip_punctuation, vqa_accuracy

from .conftest import REFERENCE
from .evidence import check, check_equal

ACCURACY = "tasks_more/vqa_accuracy.json"
METRIC = 1e-6
RECORDED: dict[str, Any] = json.loads((REFERENCE / ACCURACY).read_text(encoding="utf-8"))
END = "[SEP]"
"""X-VLM's reader glues it to the answers; x2kit adds the tokenizer's end token."""


def accuracy(questions: list[dict[str, Any]]) -> float:
    """The accuracy of some recorded questions in per cent, rounded as recorded."""
    found = measure_answers(
        [each["result"] for each in questions], [each["answers"] for each in questions], (), vqa_accuracy
    )
    return round(100 * found["accuracy"], RECORDED["decimals"])


def test_accuracy_of_each_question() -> None:
    for each in RECORDED["questions"]:
        check(ACCURACY, f"questions.{each['question_id']}", accuracy([each]), each["accuracy"], atol=METRIC)


def test_accuracy_of_all_questions_and_by_type() -> None:
    recorded, questions = RECORDED["accuracy"], RECORDED["questions"]
    check(ACCURACY, "accuracy.overall", accuracy(questions), recorded["overall"], atol=METRIC)
    for name, key in (("perQuestionType", "question_type"), ("perAnswerType", "answer_type")):
        for kind, value in recorded[name].items():
            found = accuracy([each for each in questions if each[key] == kind])
            check(ACCURACY, f"accuracy.{name}.{kind}", found, value, atol=METRIC)


def test_normalisation() -> None:
    for given, stripped, normalised in RECORDED["normalisation"]["rows"]:
        check_equal(ACCURACY, "after punctuation", strip_punctuation(given.strip()), stripped)
        check_equal(ACCURACY, "after digits, articles, contractions", normalise_answer(given), normalised)


def test_annotators_need_no_ids() -> None:
    """Officially a record without `answer_id` has no other annotator of the same answer; x2kit counts places."""
    agreed = [each for each in RECORDED["questions"] if len(set(each["answers"])) == 1 and each["accuracy"]]
    assert agreed
    for each in agreed:
        assert each["accuracy_when_answers_have_no_answer_id"] == 0
        assert accuracy([each]) == each["accuracy"]


def test_weights_of_shares_and_of_visual_genome() -> None:
    file = "tasks_more/answer_weights_vqa.json"
    for row in json.loads((REFERENCE / file).read_text())["rows"]:
        given = {row["given"]: 0.5} if row["dataset"] == "vg" else row["given"]
        found = answer_weights(given)
        check_equal(file, "answers", list(found), [answer.removesuffix(END) for answer in row["answers"]])
        check(file, "weights", list(found.values()), row["weights"], atol=METRIC)


def test_weights_of_equal_labels() -> None:
    file = "tasks_more/answer_weights_cclm.json"
    for row in json.loads((REFERENCE / file).read_text())["rows"]:
        found = answer_weights([row["few_shot_answer"]] if "few_shot_answer" in row else list(row["labels"]))
        check_equal(file, "answers", list(found), row["answers"])
        check(file, "weights", list(found.values()), row["weights"], atol=METRIC)
