"""Settings of evaluation. Imports no torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from x2kit.plugin.choice import SourceChoice, TaskChoice


class EvaluationConfig(BaseModel):
    """What is measured, on which records, in which languages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: SourceChoice = Field(description="the records that are measured on, never trained on")
    split: str = Field("test", description="the part of the source that is measured by default")
    languages: tuple[str, ...] | None = Field(
        None, description="languages to measure; null for all of the source"
    )
    tasks: dict[str, TaskChoice] = Field(min_length=1, description="the tasks by name")
    batch_size: int = Field(64, gt=0, description="pictures or texts a batch")
