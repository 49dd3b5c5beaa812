"""Checks of the predictions of tasks and of their measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from x2kit.plugin.tasks import Prediction, Task
from x2kit.testing.claims import claim
from x2kit.testing.tasks.subject import TaskSubject, if_fused, if_predicted, require_json

NOISE = 1e3
"""Value of fused states that nothing may read."""


@if_predicted
def predictions_are_json_values(subject: TaskSubject) -> None:
    """`predict` gives a JSON value for each row, and so does `results` for the results file."""
    task, model = subject.component.build(), subject.model()
    rows = subject.rows(False, task)
    with torch.inference_mode():
        collated = subject.collate(task, model, rows)
        values = task.predict(model, collated.fuse(task, model), collated.targets)
    claim(len(values) == len(rows), f"predict() gives {len(values)} values for {len(rows)} rows")
    for number, value in enumerate(values):
        require_json(f"prediction of row {number}", value)
    found = [Prediction(str(number), value, rows[number].truth) for number, value in enumerate(values)]
    require_json("results()", task.results(found))


@if_predicted
def a_row_is_predicted_alone(subject: TaskSubject) -> None:
    """The prediction of a row does not depend on the rows beside it, nor on the padding that they bring."""
    task, model = subject.component.build(), subject.model()
    rows = subject.rows(False, task)
    longer = [row._replace(texts=[" ".join([text] * 4) for text in row.texts]) for row in rows[:1]]
    together = [each.value for each in subject.predict(task, model, [*rows, *longer])]
    for number, row in enumerate(rows):
        (alone,) = subject.predict(task, model, [row])
        claim(
            _close(alone.value, together[number]),
            f"row {number} alone is predicted as {alone.value!r}, beside others as {together[number]!r}; is the mask "
            "of the texts used?",
        )


@if_fused
def it_reads_what_it_declares(subject: TaskSubject) -> None:
    """A task with `pooled` reads position 0 of the fused states only; the other positions are not computed."""
    if not subject.component.pooled:
        return
    task, model = subject.component.build(), subject.model()
    for training in [*[False] * subject.predicts_rows, *[True] * bool(subject.component.losses)]:
        collated = subject.collate(task, model, subject.rows(training, task))
        fused = collated.fuse(task, model)
        noisy = [one._replace(states=one.states.detach().clone()) for one in fused]
        for one in noisy:
            one.states[:, 1:] = NOISE
        with torch.no_grad():
            compute = task.loss if training else task.predict
            before, after = (_plain(compute(model, states, collated.targets)) for states in (fused, noisy))
        claim(
            _close(before, after),
            "it reads fused states beyond position 0; set pooled: ClassVar[bool] = False",
        )


@if_predicted
def the_first_ranked_text_is_the_prediction(subject: TaskSubject) -> None:
    """A task with `produces` ranks one or more texts for each row; the first of one is the prediction."""
    if subject.component.produces is None:
        return
    task, model = subject.component.build(), subject.model()
    rows = subject.rows(False, task)
    with torch.inference_mode():
        collated = subject.collate(task, model, rows)
        fused = collated.fuse(task, model)
        values = task.predict(model, fused, collated.targets)
        ranked, several = (task.rank(model, fused, collated.targets, count) for count in (1, 3))
    for number, (one, more, value) in enumerate(zip(ranked, several, values, strict=True)):
        found = [text.text for text in one]
        claim(found == [value], f"rank() gives {found} as the best text of row {number}, predict() {value!r}")
        claim(0 < len(more) <= 3, f"rank() gives {len(more)} texts of row {number}, expected 1 to 3")
        for text in more:
            claim(
                0 <= text.probability <= 1 and -math.inf < text.log_likelihood <= 0,
                f"rank(): expected a probability in [0, 1] and a log-likelihood of 0 or less, found {text}",
            )


@if_predicted
def it_measures_json_numbers(subject: TaskSubject) -> None:
    """`measure` gives JSON values: the score and the number of rows, whatever the order and number of rows."""
    task, found = _predicted(subject)
    measured, name = task.measure(found), subject.component.score
    require_json("measure()", measured)
    score = measured.get(name)
    claim(
        isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score),
        f"measure() gives {name} {score!r}, expected a number: `score` of the settings names the main one; found "
        f"{', '.join(measured) or 'nothing'}",
    )
    claim(
        any(type(value) is int and value == len(found) for value in measured.values()),
        f"measure() does not say of how many rows ({len(found)}): {measured}",
    )
    again = task.measure(found[::-1])
    claim(
        _close(again.get(name), score),
        f"in another order of the rows {name} is {again.get(name)}, it was {score}",
    )
    task.measure(found[:1])


@if_predicted
def items_average_to_the_measure(subject: TaskSubject) -> None:
    """`items` gives a finite number or None for each prediction; their mean is the number of `measure` by that name."""
    task, found = _predicted(subject)
    measured = task.measure(found)
    for name, values in task.items(found).items():
        claim(
            len(values) == len(found),
            f"items() gives {len(values)} values of {name} for {len(found)} predictions",
        )
        known = [value for value in values if value is not None]
        claim(
            all(isinstance(value, int | float) and math.isfinite(value) for value in known),
            f"items(): expected finite numbers or None as {name}, found {values!r}",
        )
        stated = measured.get(name)
        if known and isinstance(stated, int | float):
            mean = sum(known) / len(known)
            claim(
                _close(float(mean), float(stated)),
                f"items(): the mean of {name} is {mean}, and measure() gives {stated}; leave out what is no mean over "
                "predictions",
            )


@if_predicted
def the_truth_scores_best(subject: TaskSubject) -> None:
    """Predictions equal to the truth score no lower than those of an untrained model: higher is better."""
    task, found = _predicted(subject)
    perfect = subject.perfect
    if perfect is None:
        if any(type(each.value) is not type(each.truth) for each in found):
            return
        perfect = [each.truth for each in found]
    name = subject.component.score
    best = task.measure([each._replace(value=value) for each, value in zip(found, perfect, strict=True)])[
        name
    ]
    other = task.measure(found)[name]
    claim(best >= other, f"{name} of perfect predictions is {best}, of an untrained model's {other}")
    if subject.best is not None:
        claim(_close(best, subject.best), f"{name} of perfect predictions is {best}, expected {subject.best}")


def _predicted(subject: TaskSubject) -> tuple[Task, list[Prediction]]:
    task = subject.component.build()
    return task, subject.predict(task, subject.model(), subject.rows(False, task))


def _plain(value: Any) -> Any:
    return {name: loss.item() for name, loss in value.items()} if isinstance(value, dict) else list(value)


def _close(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, numbers up to rounding."""
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-4)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(one[name], other[name]) for name in one)
    if _is_list(one) and _is_list(other):
        return len(one) == len(other) and all(map(_close, one, other))
    return bool(one == other)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


LAWS = (
    predictions_are_json_values,
    a_row_is_predicted_alone,
    it_reads_what_it_declares,
    the_first_ranked_text_is_the_prediction,
    it_measures_json_numbers,
    items_average_to_the_measure,
    the_truth_scores_best,
)
