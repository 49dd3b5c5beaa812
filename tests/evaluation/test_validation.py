"""The validator of a recipe: its records, numbers and names."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.data.stubs import stream
from tests.evaluation.stubs import StubPhotos, tiny_model
from x2kit.data.config import DataConfig
from x2kit.errors import DataError
from x2kit.evaluation import Validator
from x2kit.evaluation.config import EvaluationConfig
from x2kit.evaluation.measuring import numbers_of
from x2kit.plugin import TaskConfig, TaskContext
from x2kit.tasks import Retrieval


class Rows(TaskConfig):
    """A task with the result of one that is measured row by row."""

    score = "accuracy"

    def run(self, context: TaskContext) -> Mapping[str, Any] | None:
        return {"scores": {"en": {"accuracy": 0.25}}, "score": "accuracy", "mean": 0.25}


class Plain(TaskConfig):
    """A task that is measured row by row."""

    score = "accuracy"


def recipe(**evaluation: Any) -> Any:
    settings = {"source": StubPhotos(), "tasks": {"retrieval": Retrieval(top_k=2)}, "every": 2}
    return SimpleNamespace(
        data=DataConfig(streams={"photos": stream("ImageText", source=StubPhotos(), languages=["en"])}),
        evaluation=EvaluationConfig(**{**settings, **evaluation}),
    )


@pytest.mark.parametrize(
    ("keys", "split", "records"),
    [
        ({}, "validation", 9),
        ({"select_on": "dev"}, "dev", 9),
        ({"select_on": "official"}, "test", 9),
        ({"select_source": StubPhotos(split="other", count=4), "select_on": "dev"}, "dev", 4),
    ],
)
def test_the_records_are_those_of_the_split_or_the_source(
    keys: Mapping[str, Any], split: str, records: int
) -> None:
    validator = Validator(recipe(**keys))
    assert validator.split == split
    found = validator.measure(tiny_model())
    assert found["retrieval.languages.de.candidates"] == records


def test_languages_are_those_of_the_recipe_unless_the_records_have_their_own() -> None:
    found = Validator(recipe(languages=("de",))).measure(tiny_model())
    assert not any("languages.en" in name for name in found)
    own = Validator(recipe(languages=("de",), select_source=StubPhotos(split="dev"))).measure(tiny_model())
    assert any("languages.en" in name for name in own)


def test_the_score_of_a_task_measured_by_rows_has_its_name() -> None:
    found = Validator(recipe(tasks={"vqa": Rows()})).measure(tiny_model())
    assert found == {"vqa.scores.en.accuracy": 0.25, "vqa.mean": 0.25, "vqa.accuracy": 0.25}


def test_records_are_checked_before_training() -> None:
    validator = Validator(recipe(languages=("en", "fr")))
    with pytest.raises(DataError, match="no record has a caption in fr"):
        validator.check(tiny_model())


def test_numbers_are_flat_and_finite() -> None:
    result = {"a": 1, "b": {"c": 0.5, "d": None, "e": True, "f": [1]}, "g": float("nan"), "h": "text"}
    assert numbers_of("task", result) == {"task.a": 1.0, "task.b.c": 0.5}


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("retrieval.mean_recall", None),
        ("retrieval.languages.en.mean_r1", None),
        ("retrieval.recall", "task retrieval has no metric 'recall'\n  metrics: mean_recall, "),
        ("retrieval", "should be TASK.METRIC, found 'retrieval'\n  tasks: retrieval, vqa"),
        ("vqa.accuracy", None),
        ("vqa.mean_zero_shot", None),
        ("vqa.acuracy", "task vqa has no metric 'acuracy'\n  metrics: accuracy, mean, "),
    ],
)
def test_a_metric_is_checked_as_far_as_its_task_names_its_numbers(select: str, message: str | None) -> None:
    config = recipe(tasks={"retrieval": Retrieval(), "vqa": Plain()}, select=select).evaluation
    faults = [text for _, text in config.selection_faults()]
    assert [message in text for text in faults] == ([] if message is None else [True])


def test_half_precision_changes_numbers_little_and_is_off_by_default() -> None:
    found = {
        precision: Validator(recipe(**keys)).measure(tiny_model())
        for precision, keys in {
            "default": {},
            "fp32": {"precision": "fp32"},
            "bf16": {"precision": "bf16"},
        }.items()
    }
    assert found["default"] == found["fp32"]
    name = "retrieval.languages.de.reranked.image_to_text.mean_recall"
    assert found["bf16"][name] == pytest.approx(found["fp32"][name], abs=0.3)
    assert torch.get_autocast_dtype("cpu") is torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_tasks_are_measured_in_the_precision_of_the_recipe(precision: str, expected: torch.dtype) -> None:
    seen: list[torch.dtype] = []
    model = tiny_model()
    model.vision_proj.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    Validator(recipe(precision=precision)).measure(model)
    assert set(seen) == {expected}
