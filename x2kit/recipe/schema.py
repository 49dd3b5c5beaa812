"""The recipe: everything that a run is made of. Imports no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from x2kit.data.config import DataConfig
from x2kit.evaluation.config import EvaluationConfig
from x2kit.model.config import ModelConfig
from x2kit.plugin.choice import FROM_HERE, HARMLESS
from x2kit.recipe.yaml_text import to_yaml
from x2kit.training.config import TrainingConfig


class Recipe(BaseModel):
    """A run: the model, the data it learns from, how it is trained, what is measured.

    `model` alone is a recipe as well: it describes a model, as that of converted weights does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: Annotated[str, HARMLESS] = Field("", description="what the recipe is for, in a sentence")
    plugins: Annotated[tuple[str, ...], FROM_HERE] = Field(
        (), description="plugins beside the installed ones: Python files, or names of importable modules"
    )
    model: ModelConfig = Field(description="the three encoders and the heads")
    data: DataConfig = Field(DataConfig(), description="the streams of training data")
    training: TrainingConfig = Field(TrainingConfig(), description="optimiser, schedule, device, checkpoints")
    evaluation: Annotated[EvaluationConfig | None, HARMLESS] = Field(
        None, description="what is measured, on which records; null where nothing is"
    )

    def to_yaml(self) -> str:
        """The recipe with every default written out; reading it back gives an equal recipe."""
        return to_yaml(self.model_dump(mode="json"))
