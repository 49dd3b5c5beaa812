"""The checks of predictions and measures: each mistake is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor

from tests.testing.wrong.tasks.network import TruthTask
from tests.testing.wrong.tasks.right import HEADS, RECORDS, RightTask
from x2kit.plugin import FusedTexts, Prediction, RankedText
from x2kit.testing import checks


def changed(**methods: Any) -> RightTask:
    """A task with other methods."""

    class Wrong(RightTask):
        def network(self) -> Any:
            return type("Changed", (TruthTask,), methods)

    return Wrong()


def predicting(
    values: Callable[[TruthTask, Any, Sequence[FusedTexts]], Sequence[Any]], **methods: Any
) -> RightTask:
    def predict(
        task: TruthTask, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> Sequence[Any]:
        return values(task, model, fused)

    return changed(predict=predict, **methods)


def measuring(numbers: Callable[[Sequence[Prediction]], dict[str, Any]]) -> RightTask:
    def measure(task: TruthTask, predictions: Sequence[Prediction]) -> dict[str, Any]:
        return numbers(predictions)

    return changed(measure=measure)


def right(predictions: Sequence[Prediction]) -> float:
    return sum(each.value == each.truth for each in predictions) / len(predictions)


def ranks(task: TruthTask, model: Any, fused: Sequence[FusedTexts]) -> Sequence[int]:
    """The place of each row among the others."""
    order: list[int] = task.logits(model, fused)[:, 0].argsort().argsort().tolist()
    return order


def padded(task: TruthTask, model: Any, fused: Sequence[FusedTexts]) -> Sequence[int]:
    return [fused[0].states.shape[1]] * len(fused[0].states)


def every_token(task: TruthTask, model: Any, fused: Sequence[FusedTexts]) -> Sequence[bool]:
    sums: list[bool] = (fused[0].states.sum((1, 2)) > 0.5).tolist()
    return sums


def every_token_loss(
    task: TruthTask, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    return {"truth": fused[0].states.square().mean()}


def first_is_right(predictions: Sequence[Prediction]) -> dict[str, Any]:
    first = predictions[0]
    return {"accuracy": float(first.id == "0"), "rows": len(predictions)}


def ranking(text: str, *scores: float) -> RightTask:
    """A task that describes every image by this text."""

    class Wrong(RightTask):
        produces: ClassVar[Literal["description"]] = "description"

        def network(self) -> Any:
            def rank(
                task: TruthTask,
                model: Any,
                fused: Sequence[FusedTexts],
                targets: Mapping[str, Tensor],
                count: int,
                given: Sequence[str] = (),
            ) -> list[list[RankedText]]:
                return [[RankedText(text, *scores)] for _ in fused[0].states]

            def predict(
                task: TruthTask, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
            ) -> list[str]:
                return ["a square"] * len(fused[0].states)

            return type("Changed", (TruthTask,), {"rank": rank, "predict": predict})

    return Wrong()


MISTAKES = [
    (predicting(lambda *given: [True]), "predictions_are_json_values", r"predict\(\) gives 1 values for 4 rows"),
    (
        predicting(lambda task, model, fused: list(task.logits(model, fused))),
        "predictions_are_json_values",
        "prediction of row 0 is no JSON value: Object of type Tensor",
    ),
    (
        predicting(lambda task, model, fused: [float("nan")] * len(fused[0].states)),
        "predictions_are_json_values",
        "prediction of row 0 is no JSON value: Out of range float",
    ),
    (
        changed(results=lambda task, predictions: {1: predictions}),
        "predictions_are_json_values",
        r"results\(\) is ",
    ),
    (predicting(ranks), "a_row_is_predicted_alone", "alone is predicted as 0, beside others as "),
    (predicting(padded), "a_row_is_predicted_alone", "row 0 alone is predicted as 8, beside others as "),
    (predicting(every_token), "it_reads_what_it_declares", "it reads fused states beyond position 0"),
    (changed(loss=every_token_loss), "it_reads_what_it_declares", r"set pooled: ClassVar\[bool\] = False"),
    (
        ranking("a circle", 0.5, -1.0),
        "the_first_ranked_text_is_the_prediction",
        r"rank\(\) gives \['a circle'\] as the best text of row 0, predict\(\) 'a square'",
    ),
    (
        ranking("a square", 1.5, -1.0),
        "the_first_ranked_text_is_the_prediction",
        "expected a probability in .*, found RankedText",
    ),
    (
        measuring(lambda found: {"recall": right(found), "rows": len(found)}),
        "it_measures_json_numbers",
        r"measure\(\) gives accuracy None, expected a number: .*; found recall, rows",
    ),
    (
        measuring(lambda found: {"accuracy": torch.tensor(right(found)), "rows": len(found)}),
        "it_measures_json_numbers",
        r"measure\(\) is no JSON value",
    ),
    (
        measuring(lambda found: {"accuracy": right(found)}),
        "it_measures_json_numbers",
        r"measure\(\) does not say of how many rows \(4\)",
    ),
    (measuring(first_is_right), "it_measures_json_numbers", r"in another order of the rows accuracy is 0\.0"),
    (
        measuring(lambda found: {"accuracy": right(found) / (len(found) - 1), "rows": len(found)}),
        "it_measures_json_numbers",
        "it raised ZeroDivisionError",
    ),
    (
        changed(items=lambda task, found: {"accuracy": [1.0]}),
        "items_average_to_the_measure",
        r"items\(\) gives 1 values of accuracy for 4 predictions",
    ),
    (
        changed(items=lambda task, found: {"accuracy": [float("nan")] * len(found)}),
        "items_average_to_the_measure",
        r"items\(\): expected finite numbers or None as accuracy",
    ),
    (
        changed(items=lambda task, found: {"accuracy": [2.0] * len(found)}),
        "items_average_to_the_measure",
        r"items\(\): the mean of accuracy is 2\.0, and measure\(\) gives ",
    ),
    (
        measuring(lambda found: {"accuracy": 1 - right(found), "rows": len(found)}),
        "the_truth_scores_best",
        r"accuracy of perfect predictions is 0\.0, of an untrained model's ",
    ),
    (
        measuring(lambda found: {"accuracy": 100 * right(found), "rows": len(found)}),
        "the_truth_scores_best",
        r"accuracy of perfect predictions is 100\.0, expected 1\.0",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "name", "said"), MISTAKES)
def test_each_mistake_is_named(wrong: RightTask, name: str, said: str) -> None:
    law = {check.__name__: check for check in checks("task")}[name]
    with pytest.raises(AssertionError, match=f"{name}: .*{said}"):
        law(wrong, records=RECORDS, heads=HEADS, best=1.0)


class Unpooled(RightTask):
    pooled: ClassVar[bool] = False

    def network(self) -> Any:
        return type("Unpooled", (TruthTask,), {"loss": every_token_loss})


def test_a_task_that_declares_all_tokens_may_read_them() -> None:
    law = {check.__name__: check for check in checks("task")}["it_reads_what_it_declares"]
    law(Unpooled(), records=RECORDS, heads=HEADS)


def test_perfect_predictions_of_another_type_than_the_truth_are_given() -> None:
    """As in VQA: a prediction is an answer, and the truth a list of answers."""
    law = {check.__name__: check for check in checks("task")}["the_truth_scores_best"]
    wrong = predicting(lambda task, model, fused: [str(row) for row in ranks(task, model, fused)])
    law(wrong, records=RECORDS, heads=HEADS, best=1.0)
    with pytest.raises(AssertionError, match=r"accuracy of perfect predictions is 0\.0, expected 1\.0"):
        law(wrong, records=RECORDS, heads=HEADS, best=1.0, perfect=["no"] * len(RECORDS))
