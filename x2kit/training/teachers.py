"""Load the trained models that objectives compare with, and embed texts with them. Imports torch.

A new text encoder learns to give the embeddings of an old one: both sides of parallel text are drawn to what the old
one, the teacher, gives for the side that it can read (Reimers and Gurevych 2020, arXiv:2004.09813).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from x2kit.data.config import DataConfig
from x2kit.data.pipeline.collation import TeacherTokens
from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import Fault, RecipeError
from x2kit.hub.names import NamedWeights
from x2kit.interop import named_weights
from x2kit.interop.named_weights import weights_for_ranks
from x2kit.model import X2VLM, load
from x2kit.model.config import ModelConfig
from x2kit.model.saved_recipe import plugins_of
from x2kit.plugin.tasks import Texts


class Recipe(named_weights.Recipe, Protocol):
    """Sections of a recipe that name teachers; see `x2kit.Recipe`."""

    @property
    def data(self) -> DataConfig: ...


@dataclass(frozen=True)
class Teacher:
    """A trained model that embeds texts; frozen, and outside of what is trained and saved.

    Attributes:
        model: in evaluation mode.
    """

    model: X2VLM

    @property
    def tokens(self) -> TeacherTokens:
        """How it reads texts."""
        return TeacherTokens(self.model.tokenizer, self.model.max_length)

    @torch.no_grad()
    def embed(self, texts: Texts) -> Tensor:
        """Embed texts: [B, E] float32, unit length, without gradient."""
        return self.model.project_texts(self.model.encode_texts(texts.ids, texts.mask))


def load_teachers(
    recipe: Recipe, source: NamedWeights | None, device: torch.device, processes: Processes = ALONE
) -> dict[str, Teacher]:
    """Load the teacher of each stream that has an objective with one.

    Args:
        recipe: of the run; a teacher is by default the model that it starts from.
        source: that model, found already; None without `init_from`.
        device: of the teachers.
        processes: ranks of the run; all call this function.
    Raises: RecipeError for a teacher that is not given or differs between objectives of one stream; WeightsError for
        one that cannot be loaded.
    """
    plugins = plugins_of(recipe.to_yaml())
    loaded: dict[str, Teacher] = {}
    found: dict[str, Teacher] = {}
    for stream, name in _teacher_names(recipe.model, recipe.data).items():
        if name not in loaded:
            if source is None or name != recipe.model.init_from:
                weights = weights_for_ranks(name, recipe, processes)
            else:
                weights = source
            model = load(weights.directory, plugins=plugins).to(device).eval().requires_grad_(False)
            _require_common_space(model, recipe.model, f"data.streams.{stream}.objectives")
            loaded[name] = Teacher(model)
        found[stream] = loaded[name]
    return found


def _teacher_names(model: ModelConfig, data: DataConfig) -> dict[str, str]:
    """Return the name of each stream's teacher, for the streams that have one."""
    names: dict[str, str] = {}
    for stream, config in data.streams.items():
        given, key = config.teachers(model.init_from), f"data.streams.{stream}.objectives"
        known = sorted({name for name in given.values() if name is not None})
        if None in given.values():
            absent = next(name for name, teacher in given.items() if teacher is None)
            raise RecipeError(
                [Fault(f"{key}.{absent}.teacher", "", "no teacher; set it, or model.init_from")]
            )
        if len(known) > 1:
            message = f"the objectives of a stream have one teacher, found {', '.join(known)}"
            raise RecipeError([Fault(key, "", message)])
        if known:
            names[stream] = known[0]
    return names


def _require_common_space(teacher: X2VLM, model: ModelConfig, key: str) -> None:
    found, wanted = teacher.text_proj.out_features, model.heads.embed_dim
    if found != wanted:
        message = f"the teacher embeds texts in {found} dimensions and model.heads.embed_dim is {wanted}"
        raise RecipeError([Fault(key, "", f"{message}; they must be equal")])
