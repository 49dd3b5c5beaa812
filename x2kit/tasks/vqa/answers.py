"""Lists of answers, and the weights of a question's annotated answers. Imports no torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

from x2kit.data.storage.files import open_file
from x2kit.errors import DataError


@cache
def read_answers(answers: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the answers of a list; their positions are the classes of `AnswerClassification`. Read once a process.

    Args:
        answers: the answers themselves, or path or URL of a JSON file: a list of answers (`answer_list.json`), or an
            object of answers and their class numbers from 0 (`ans2label.json`).
    Raises: DataError, naming the file, if it is missing or holds something else, or for a repeated answer.
    """
    where = f"answer list {answers}" if isinstance(answers, str) else "answer_list"
    found = _read(answers) if isinstance(answers, str) else answers
    if isinstance(found, dict):
        if sorted(found.values()) != list(range(len(found))):
            raise DataError(f"{where}: expected the classes 0 to {len(found) - 1}, each once")
        found = sorted(found, key=found.__getitem__)
    if not found or not all(isinstance(answer, str) for answer in found):
        raise DataError(f"{where}: expected a list of texts, or an object of texts and class numbers")
    repeated = [answer for answer, count in Counter(found).items() if count > 1]
    if repeated:
        raise DataError(f"{where}: the answer {repeated[0]!r} occurs more than once")
    return tuple(found)


def _read(location: str) -> list[str] | dict[str, int]:
    with open_file(location) as file:
        try:
            found = json.load(file)
        except ValueError as error:
            raise DataError(f"answer list {location}: not JSON ({error})") from error
    if isinstance(found, dict) and all(type(number) is int for number in found.values()):
        return found
    return found if isinstance(found, list) else []


def answer_weights(answers: Sequence[str] | Mapping[str, float]) -> dict[str, float]:
    """Return each distinct answer with its weight in the loss, in order of appearance.

    Args:
        answers: annotated answers with repetitions, which weigh their share (VQA v2: of ten), or answers with their
            weights.
    """
    if isinstance(answers, Mapping):
        return {answer: float(weight) for answer, weight in answers.items()}
    return {answer: count / len(answers) for answer, count in Counter(answers).items()}
