"""Settings of evaluation, and the recipe as evaluation sees it. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from x2kit.errors import Fault, RecipeError
from x2kit.plugin.components import SourceConfig, TaskConfig

if TYPE_CHECKING:
    from x2kit.data.config import DataConfig
    from x2kit.model.config import ModelConfig


class EvaluationConfig(BaseModel):
    """Tasks, records and languages of an evaluation."""

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
    batch_size: int = Field(64, gt=0, description="images or texts in a batch")

    @model_validator(mode="after")
    def _sources_name_tasks(self) -> EvaluationConfig:
        if unknown := [name for name in self.sources if name not in self.tasks]:
            raise ValueError(
                f"sources: no task is called {', '.join(unknown)}; tasks: {', '.join(self.tasks)}"
            )
        return self

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
