"""Settings of evaluation. Imports no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from x2kit.plugin.components import SourceConfig, TaskConfig


class EvaluationConfig(BaseModel):
    """What is measured, on which records, in which languages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: SourceConfig = Field(description="the records that are measured on, never trained on")
    sources: dict[str, SourceConfig] = Field(
        {}, description="records of single tasks in place of `source`, by the name of the task in `tasks`"
    )
    split: str = Field("test", description="the part of the source that is measured by default")
    languages: tuple[str, ...] | None = Field(
        None, description="languages to measure; null for all of the source"
    )
    tasks: dict[str, TaskConfig] = Field(min_length=1, description="the tasks by name")
    batch_size: int = Field(64, gt=0, description="images or texts a batch")

    @model_validator(mode="after")
    def _sources_are_of_tasks(self) -> EvaluationConfig:
        if unknown := [name for name in self.sources if name not in self.tasks]:
            raise ValueError(
                f"sources: no task is called {', '.join(unknown)}; tasks: {', '.join(self.tasks)}"
            )
        return self

    def keyed_sources(self) -> dict[str, SourceConfig]:
        """Every source by its key below `evaluation`, the shared one first."""
        return {"source": self.source, **{f"sources.{task}": one for task, one in self.sources.items()}}
