from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from x2kit.errors import DataError
from x2kit.inference import Answer, Model, Scored

Run = Callable[..., Any]
QUESTIONS = ("--question", "what?", "--question", "where?")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Replace the decoder, which tiny models lack, and record the questions."""
    record: list[tuple[Any, ...]] = []

    def answer(
        model: Model, image: str, question: str, answers: Sequence[str] | None, count: int, *, matching: bool
    ) -> Answer:
        if "ruin" in image:
            raise DataError("not readable")
        record.append((image, question, answers, count, matching))
        return Answer(image, question, [Scored("yes", 0.75, -1.5), Scored("no", 0.25, -2.5)])

    monkeypatch.setattr(Model, "answer", answer)
    return record


def test_every_question_is_asked_of_every_image(
    x2kit: Run, model: str, pictures: Path, asked: list[Any]
) -> None:
    done = x2kit("answer", "pictures", model, *QUESTIONS, "--answer", "yes", "--answer", "no", "--count", "2")
    assert (done.status, done.err) == (0, "")
    images = ["pictures/red.png", "pictures/sub/green.jpg"]
    pairs = [(image, question) for image in images for question in ("what?", "where?")]
    assert asked == [(*pair, ["yes", "no"], 2, False) for pair in pairs]
    assert done.out.splitlines()[:2] == [
        "0.7500\tyes\tpictures/red.png\twhat?", "0.2500\tno\tpictures/red.png\twhat?"
    ]  # fmt: skip


def test_a_broken_image_is_named_once(x2kit: Run, model: str, broken: str, asked: list[Any]) -> None:
    done = x2kit("answer", "pictures", model, *QUESTIONS, "--json")
    assert (done.status, done.err) == (1, f"{broken}: not readable\n")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert len(rows) == 4
    assert rows[0]["candidates"][0] == {"text": "yes", "probability": 0.75, "log_likelihood": -1.5}
    assert asked[0][2:] == (None, 5, False)


def test_a_model_without_decoder_ends_with_what_adds_it(x2kit: Run, model: str, pictures: Path) -> None:
    done = x2kit("answer", "pictures", model, *QUESTIONS)
    assert (done.status, done.out) == (2, "")
    assert "this model answers no questions" in done.err
    assert "recipes that train one: quickstart/questions" in done.err


def test_the_matching_head_ranks_given_answers(x2kit: Run, model: str, pictures: Path) -> None:
    options = ("--answer", "a dog", "--answer", "the sun", "--matching")
    done = x2kit("answer", "pictures/red.png", model, "--question", "what?", *options)
    assert (done.status, done.err) == (0, "")
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert {line[1] for line in lines} == {"a dog", "the sun"}
    assert sum(float(line[0]) for line in lines) == pytest.approx(1, abs=1e-3)
