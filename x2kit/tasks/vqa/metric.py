"""Score answers: VQA accuracy with its normalisation, and exact match. Imports no torch.

VQA accuracy (Antol et al., arXiv:1505.00468, section 3.4; vqaEval.py of the official tools): an answer that m of the
annotators gave counts min(m / 3, 1), averaged over leaving out one annotator at a time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

AGREEING = 3
"""Annotators who must agree with an answer for a full score."""
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_ARTICLES = frozenset(["a", "an", "the"])
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())}}
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
_CONTRACTIONS = {
    form[:place] + form[place + 1 :]: form
    for form in _CONTRACTED.split()
    for place, sign in enumerate(form)
    if sign == "'"
}
"""A contraction with one apostrophe missing, and its full form."""
_CONTRACTIONS["somebody'd"] = "somebodyd"  # the wrong way round in the official table


def strip_punctuation(answer: str) -> str:
    """Remove the punctuation of an answer, or replace it by spaces, as the official code does.

    A sign is removed if a space touches it anywhere in the answer, or if the answer has a comma between digits.
    Periods are removed unless a digit follows. "%", "$", "#", "&", ":" and "'" stay.
    """
    has_number = _COMMA_IN_NUMBER.search(answer) is not None
    found = answer
    for sign in _PUNCTUATION:
        touches = f"{sign} " in answer or f" {sign}" in answer
        found = found.replace(sign, "" if touches or has_number else " ")
    return _PERIOD.sub("", found)


def normalise_answer(answer: str) -> str:
    """Normalise a predicted answer: punctuation, lower case, digits for zero to ten, articles, apostrophes."""
    stripped = strip_punctuation(answer.replace("\n", " ").replace("\t", " ").strip())
    words = (_NUMBERS.get(word, word) for word in stripped.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


class AnswerMetric(NamedTuple):
    """A score of one answer against the annotated ones.

    Attributes:
        predicted: maps a prediction to the form that is compared.
        annotated: maps the annotated answers of a question to the forms that are compared.
        score: maps the number of annotated answers that agree, and of all of them, to [0, 1].
    """

    predicted: Callable[[str], str]
    annotated: Callable[[Sequence[str]], list[str]]
    score: Callable[[int, int], float]

    def __call__(self, answer: str, annotated: Sequence[str]) -> float:
        """Score an answer, as the model gives it, against the answers of all annotators, with repetitions."""
        return self.score(self.annotated(annotated).count(self.predicted(answer)), len(annotated))


def _compared(annotated: Sequence[str]) -> list[str]:
    return [strip_punctuation(each) for each in annotated] if len(set(annotated)) > 1 else list(annotated)


def _leave_one_out(agreeing: int, total: int) -> float:
    """Average over the annotators left out: one of those who agree in `agreeing` of `total` cases."""
    without_one = agreeing * min((agreeing - 1) / AGREEING, 1.0) if agreeing else 0.0
    return (without_one + (total - agreeing) * min(agreeing / AGREEING, 1.0)) / total


vqa_accuracy = AnswerMetric(normalise_answer, _compared, _leave_one_out)
"""VQA accuracy. Only the prediction is normalised in full; the annotated answers lose their punctuation, and only if
they are not all equal, as in the official code. So "stop" against ten times "stop." scores 0."""

exact_match = AnswerMetric(str, list, lambda agreeing, total: float(agreeing > 0))
"""1 for one of the annotated answers, letter by letter (GQA, xGQA, MSRVTT-QA, MSVD-QA)."""


def measure_answers(
    predictions: Sequence[str],
    annotated: Sequence[Sequence[str]],
    candidates: Sequence[str],
    metric: AnswerMetric,
) -> dict[str, Any]:
    """Average a metric over questions, beside chance and the most frequent answer.

    Args:
        predictions: Q answers.
        annotated: the annotated answers of each question; a question without any is not scored.
        candidates: answers that could have been given; empty if any text could.
        metric: `vqa_accuracy` or `exact_match`.
    Returns:
        accuracy: in [0, 1]; None if no question has answers.
        chance: expected accuracy of an answer drawn from the candidates at random; None without candidates.
        most_frequent: accuracy of giving the answer that is most frequent among these questions to all of them.
        most_frequent_answer: this answer.
        questions, annotated_questions: counts.
    """
    scored = [
        (each, metric.annotated(answers))
        for each, answers in zip(predictions, annotated, strict=True)
        if answers
    ]
    found: dict[str, Any] = {"questions": len(predictions), "annotated_questions": len(scored)}
    if not scored:
        return {
            "accuracy": None,
            "chance": None,
            "most_frequent": None,
            "most_frequent_answer": None,
            **found,
        }

    def accuracy(answers: Iterable[str]) -> float:
        pairs = zip(answers, scored, strict=True)
        return fmean(metric.score(right.count(answer), len(right)) for answer, (_, right) in pairs)

    given = Counter(map(metric.predicted, candidates))
    chance = fmean(
        sum(given[answer] * metric.score(count, len(right)) for answer, count in Counter(right).items())
        for _, right in scored
    ) / max(len(candidates), 1)
    ((most, _),) = Counter(answer for _, right in scored for answer in right).most_common(1)
    return {
        "accuracy": accuracy(metric.predicted(each) for each, _ in scored),
        "chance": chance if candidates else None,
        "most_frequent": accuracy([most] * len(scored)),
        "most_frequent_answer": most,
        **found,
    }


def measure_choices(predictions: Sequence[int], right: Sequence[int | None], options: int) -> dict[str, Any]:
    """Measure the share of right choices; arguments and result as in `measure_answers`, with positions as answers."""
    answers = [[] if each is None else [str(each)] for each in right]
    return measure_answers(
        [str(each) for each in predictions], answers, [str(each) for each in range(options)], exact_match
    )


def results_file(ids: Sequence[str], predictions: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the results as the VQA server takes them; numeric ids as numbers, each question once."""
    found = dict(zip(ids, predictions, strict=True))
    return [{"question_id": int(each) if each.isdecimal() else each, "answer": found[each]} for each in found]
