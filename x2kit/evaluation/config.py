"""Settings of evaluation, and the recipe as evaluation sees it. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from x2kit.errors import Fault, RecipeError
from x2kit.plugin.components import SourceConfig, TaskConfig

if TYPE_CHECKING:
    from x2kit.data.config import DataConfig
    from x2kit.model.config import ModelConfig


OFFICIAL = "official"


class Expectation(BaseModel):
    """Published numbers of one model on the records of the recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, description="the model, and how it was trained")
    task: str = Field(description="name of the task in `tasks`")
    source: str = Field(min_length=1, description="where the numbers are published")
    note: str = Field("", description="conditions that are not those of the recipe, or not published")
    split: str | None = Field(None, description="split that was measured; results of others are not compared")
    records: int | None = Field(
        None, gt=0, description="number of measured records; results on other numbers are not compared"
    )
    values: dict[str, Any] = Field(
        min_length=1,
        description="numbers as the task's result has them, nested: scores: {en: {accuracy: 0.804}}",
    )

    @field_validator("values")
    @classmethod
    def _are_numbers(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name, value in values.items():
            if isinstance(value, dict):
                cls._are_numbers(value)
            elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"{name}: expected a number or a mapping to numbers, found {value!r}")
        return values


class EvaluationConfig(BaseModel):
    """Tasks, records and languages of an evaluation, and validation during training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: SourceConfig = Field(description="records to evaluate on, never used in training")
    sources: dict[str, SourceConfig] = Field(
        {}, description="records of single tasks that replace `source`, by the name of the task in `tasks`"
    )
    split: str = Field("test", description="split of the source to evaluate by default")
    languages: tuple[str, ...] | None = Field(
        None, description="languages to measure; null for all of the source"
    )
    tasks: dict[str, TaskConfig] = Field(min_length=1, description="tasks by name")
    expectations: dict[str, Expectation] | None = Field(
        None, description="published numbers by name, which results are printed beside; null for none"
    )
    batch_size: int = Field(64, gt=0, description="images or texts in a batch")
    precision: Literal["fp32", "bf16", "fp16", "auto"] = Field(
        "fp32",
        description="of matrix products while tasks are measured, also during training; auto: bf16 where the device "
        "multiplies it faster. Half precision moves scores in the third decimal or so",
    )
    every: int | None = Field(
        None,
        gt=0,
        description="training steps between two validations, which measure all tasks on select_on; also after the last "
        "step; null for none",
    )
    select: str | None = Field(
        None,
        description="TASK.METRIC, such as retrieval.mean_recall: the weights of the validation with its best value "
        "become those of the run; null for those of the last step",
    )
    select_on: str = Field(
        "validation",
        min_length=1,
        description="split to validate on; official: that of `split`, on which most published results were selected",
    )
    select_source: SourceConfig | None = Field(
        None, description="records to validate on that are no split of `source`, with their own languages"
    )
    best_is: Literal["highest", "lowest"] = Field("highest", description="best value of `select`")
    patience: int | None = Field(
        None,
        gt=0,
        description="validations without a better value of `select` after which training stops; null for none",
    )

    @model_validator(mode="after")
    def _sources_name_tasks(self) -> EvaluationConfig:
        if unknown := [name for name in self.sources if name not in self.tasks]:
            raise ValueError(
                f"sources: no task is called {', '.join(unknown)}; tasks: {', '.join(self.tasks)}"
            )
        return self

    @model_validator(mode="after")
    def _expectations_name_tasks(self) -> EvaluationConfig:
        for name, one in (self.expectations or {}).items():
            if one.task not in self.tasks:
                raise ValueError(
                    f"expectations.{name}: no task is called {one.task}; tasks: {', '.join(self.tasks)}; null removes "
                    "the entry"
                )
        return self

    @property
    def validation_split(self) -> str:
        """Name of the split to validate on."""
        return self.split if self.select_on == OFFICIAL else self.select_on

    def selection_faults(self) -> Iterator[tuple[str, str]]:
        """Yield key and message of each setting that makes a selection during training impossible."""
        if self.patience is not None and self.select is None:
            yield "patience", "needs the metric that should improve; set evaluation.select"
        if self.select_source is not None and self.select_on == OFFICIAL:
            yield "select_source", f"set it or select_on: {OFFICIAL}, not both"
        if self.select is None:
            return
        if self.every is None:
            yield "select", "needs the steps between validations; set evaluation.every"
        task, dot, metric = self.select.partition(".")
        if task not in self.tasks or not dot:
            yield "select", f"should be TASK.METRIC, found {self.select!r}\n  tasks: {', '.join(self.tasks)}"
            return
        chosen = self.tasks[task]
        main = chosen.metrics
        if type(chosen).run is TaskConfig.run:  # measured row by row
            main = (chosen.score, "mean", "mean_trained", "mean_zero_shot")
        if main and "." not in metric and metric not in main:  # a dot: a number inside the result
            yield "select", f"task {task} has no metric {metric!r}\n  metrics: {', '.join(main)}"

    def validation_sources(self) -> dict[str, SourceConfig]:
        """Map keys below `evaluation` to the sources to validate on, in their split.

        Raises: SettingError if a source has no such split.
        """
        if self.select_source is not None:
            return {"select_source": self.select_source}
        return {key: one.for_split(self.validation_split) for key, one in self.keyed_sources().items()}

    def keyed_sources(self) -> dict[str, SourceConfig]:
        """Map keys below `evaluation` to sources, the shared one first."""
        return {"source": self.source, **{f"sources.{task}": one for task, one in self.sources.items()}}


class Recipe(Protocol):
    """The parts of a recipe that evaluation reads; implemented by `x2kit.Recipe`."""

    @property
    def model(self) -> ModelConfig: ...
    @property
    def data(self) -> DataConfig: ...
    @property
    def evaluation(self) -> EvaluationConfig | None: ...
    def to_yaml(self) -> str: ...


def require_evaluation(recipe: Recipe) -> EvaluationConfig:
    """Return the settings of evaluation. Raises RecipeError for a recipe without them."""
    if recipe.evaluation is None:
        raise RecipeError([Fault("evaluation", "", "missing: the tasks and records to evaluate")])
    return recipe.evaluation
