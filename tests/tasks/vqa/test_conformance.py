"""The tasks of questions keep the contract that plugins are checked against."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from x2kit.tasks import VQA, AnswerClassification, MultipleChoice

ANSWERS = ("yes", "no", "red", "dog")
QUESTIONS = ("is it night", "what does a man see", "which colour has this", "is it a day")


def records(**fields: list[Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": str(number),
            "image": np.full((32, 24, 3), 60 * number, np.uint8),
            "question": {"en": question},
            **{name: values[number] for name, values in fields.items()},
        }
        for number, question in enumerate(QUESTIONS)
    ]


ANSWERED = records(answers=[[answer] for answer in ANSWERS])
OPTIONS = [[{"en": f"{word} {number}"} for word in ("first", "second", "third")] for number in range(4)]
CHOSEN = records(options=OPTIONS, label=[0, 2, 1, 1])


@pytest.mark.conformance(
    VQA(answer_list=ANSWERS, metric="exact"),
    records=ANSWERED,
    heads={"built": [], "decoder_layers": 1},
    perfect=ANSWERS,
    best=1.0,
)
def test_ranked_answers(conformance: Any) -> None:
    conformance()


@pytest.mark.conformance(
    VQA(metric="exact", max_answer_tokens=4),
    records=ANSWERED,
    heads={"built": [], "decoder_layers": 1},
    perfect=ANSWERS,
    best=1.0,
)
def test_written_answers(conformance: Any) -> None:
    conformance()


@pytest.mark.conformance(
    AnswerClassification(answer_list=ANSWERS),
    records=ANSWERED,
    heads={"built": [], "answers": 4},
    perfect=ANSWERS,
    best=1.0,
)
def test_classified_answers(conformance: Any) -> None:
    conformance()


@pytest.mark.conformance(MultipleChoice(options=3), records=CHOSEN, heads={"built": ["itm"]}, best=1.0)
def test_chosen_options(conformance: Any) -> None:
    conformance()
