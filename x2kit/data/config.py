"""Settings of the data streams: sources, losses, transforms and masking. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from x2kit.data.storage.limits import LimitsConfig
from x2kit.plugin.choice import FROM_HERE, HARMLESS, require_own_names
from x2kit.plugin.components import ObjectiveConfig, SourceConfig, TaskConfig
from x2kit.plugin.tasks import STEP_LOSSES, PretrainingConfig, RowLayout

LossName = str


class LossConfig(BaseModel):
    """Weight of one loss of a stream, and the part of the run in which it is on."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    shorthand: ClassVar[str] = "weight"
    """The field that a plain number in a recipe sets; an overlay may add the others."""

    weight: float = Field(1.0, ge=0, description="factor of this loss; 0 turns it off")
    start: float = Field(0.0, ge=0, le=1, description="share of all steps after which the loss is on")
    stop: float = Field(1.0, ge=0, le=1, description="share of all steps after which the loss is off again")

    def on(self, step: int, steps: int) -> bool:
        """Return whether the loss is on at `step` (from 0) of a run of `steps`."""
        return self.weight > 0 and self.start * steps <= step < self.stop * steps


def _number_is_weight(value: Any) -> Any:
    return {"weight": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


LossSetting = Annotated[LossConfig, BeforeValidator(_number_is_weight)]


class TransformConfig(BaseModel):
    """Crop, flip and augmentation of an image (paper, section on pre-training)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_scale: tuple[float, float] | None = Field(
        (0.2, 1.0),
        description="random resized crop: smallest and largest share of the area; null for no crop",
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    careful_flip: bool = Field(False, description="do not flip an image with a text that says left or right")
    augment_operations: int = Field(
        2, ge=0, description="random colour and shape operations per image (RandAugment)"
    )
    augment_colour: bool = Field(
        True,
        description="include colour operations; false keeps the shape operations, which work on images of any channels "
        "and bit depth",
    )
    augment_level: int = Field(7, ge=0, le=10, description="magnitude of these operations")
    random_convolution: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability of a convolution with random weights (arXiv:2007.13003), which changes colours and "
        "textures and keeps shapes and boxes: for images of a style that training does not show",
    )
    convolution_sides: tuple[Annotated[int, Field(gt=0, le=15)], ...] = Field(
        (1, 3, 5, 7),
        min_length=1,
        description="sides of these kernels in pixels, odd numbers, of which one is drawn; 1 changes colours alone",
    )
    reduced_decoding: bool = Field(
        False,
        description="decode JPEG images at half, a quarter or an eighth of their size if the crop stays at least as "
        "large as the encoder's input: faster for large images, without a visible difference",
    )

    @field_validator("convolution_sides")
    @classmethod
    def _odd(cls, sides: tuple[int, ...]) -> tuple[int, ...]:
        if even := [side for side in sides if side % 2 == 0]:
            raise ValueError(f"sides of kernels are odd, found {even[0]}")
        return sides


class MaskingConfig(BaseModel):
    """Choice of the tokens for masked language modelling (paper, section on pre-training)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask_prob: float = Field(0.5, gt=0, le=1, description="share of the tokens to predict")
    max_masks: int = Field(12, gt=0, description="maximum number of tokens to predict per text")
    skipgram_prob: float = Field(
        0.2, ge=0, le=1, description="probability of masking a span instead of one token"
    )
    skipgram_size: int = Field(3, ge=2, description="maximum length of a span, in tokens")
    whole_words: bool = Field(True, description="mask all pieces of a word together")


class StreamConfig(BaseModel):
    """One stream of training data: its records, rows and losses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: TaskConfig = Field(
        description="task that draws the rows: one of pretraining, such as ImageText, or another, such as VQA",
    )
    source: SourceConfig = Field(description="source of the records")
    batch_size: int = Field(
        gt=0,
        description="rows per step: texts, each with its image or box; pairs of texts for ParallelText",
    )
    frames: int = Field(3, gt=0, description="frames sampled per video")
    languages: tuple[str, ...] | None = Field(
        None, description="languages of the texts that are drawn; null for all"
    )
    fusion_rows: int | None = Field(
        None,
        gt=1,
        description="rows that pass the fusion encoder, for matching, boxes and masked language; the others serve the "
        "contrastive loss and as negatives; null for all",
    )
    weight: float = Field(1.0, ge=0, description="factor of the sum of this stream's losses")
    losses: dict[LossName, LossSetting] = Field(
        {},
        description="weight, start and stop of each loss; losses not listed have weight 1 from the start",
    )
    objectives: dict[str, ObjectiveConfig] = Field(
        {},
        description="further losses of this stream from plugins, by names of your choice: letters, digits, - and _. "
        "Each is logged as STREAM.NAME and has its own weight",
    )
    positives: Literal["row", "text", "image"] = Field(
        "row",
        description="rows that also count as positives of a row: none (row), those of equal text, or of equal image",
    )
    block: int = Field(
        1, gt=0, description="shuffle blocks of this many consecutive records, which stay in one batch"
    )
    max_words: int = Field(40, gt=0, description="maximum words per text; the rest is cut")
    max_tokens: int = Field(
        40, gt=2, description="maximum tokens per text, special tokens included; the rest is cut"
    )
    transform: TransformConfig = Field(
        TransformConfig(), description="crop, flip and augmentation of the images"
    )
    masking: MaskingConfig = Field(MaskingConfig(), description="choice of the masked tokens")

    @model_validator(mode="after")
    def _fits_task(self) -> StreamConfig:
        name, layout = self.task.component_name(), self.layout
        self._require_losses(name)
        self._require_objectives_fit(name)
        if layout is None and self.fusion_rows is not None:
            raise ValueError(f"fusion_rows: all rows of {name} pass the fusion encoder; set null")
        if self.positives == "image" and not (layout and self.has_images):
            lacks = "positives" if layout is None else "images"
            raise ValueError(f"positives: {name} has no {lacks}; allowed are row and text")
        records = self.records_a_step
        if self.image_stream is None and records % self.block:
            raise ValueError(f"block: must divide the {records} records per step, found {self.block}")
        return self

    def _require_losses(self, name: str) -> None:
        if not self.task.losses:
            raise ValueError(f"task: {name} has no loss; it is a task of evaluation only")
        computed = self.task.losses if self.layout is None else STEP_LOSSES[self.layout]
        if unknown := [loss for loss in self.task.losses if loss not in computed]:
            raise ValueError(
                f"task: {name} asks for the losses {', '.join(unknown)}; for rows of the layout {self.layout} the step "
                f"computes {', '.join(computed)}"
            )
        if surplus := [loss for loss in self.losses if loss not in self.task.losses]:
            raise ValueError(f"{name} has no loss {', '.join(surplus)}; it has {', '.join(self.task.losses)}")

    def _require_objectives_fit(self, task: str) -> None:
        if self.objectives and self.layout in ("texts", None):
            raise ValueError(
                f"objectives: {task} has no features to compare, found {', '.join(self.objectives)}"
            )
        taught = [name for name, objective in self.objectives.items() if objective.taught]
        if taught and self.pivot is None:
            raise ValueError(
                f"objectives: {', '.join(taught)}: a teacher embeds the text in the pivot language of parallel texts, "
                f"and {task} here has none; set pivot of ParallelText"
            )
        require_own_names("objectives: a name", self.objectives)
        for name in self.objectives:
            logged = name == "padding" or name.startswith(("images_", "rows_")) or name.endswith("_accuracy")
            if logged or any(name in names for names in STEP_LOSSES.values()):
                raise ValueError(
                    f"objectives: {name} is the name of another logged value; choose another name"
                )

    @property
    def layout(self) -> RowLayout | None:
        """What its rows hold, if the step computes their losses; None for a task that computes its own."""
        return self.task.layout if isinstance(self.task, PretrainingConfig) else None

    @property
    def pivot(self) -> str | None:
        """The language on one side of every pair of parallel texts; None without one."""
        if self.layout != "parallel" or not isinstance(self.task, PretrainingConfig):
            return None
        return next(iter(self.task.required_languages), None)

    def teachers(self, init_from: str | None) -> dict[str, str | None]:
        """Return the teacher of each objective that has one, by the objective's name; None where it is not given.

        Args:
            init_from: of the recipe's model.
        """
        taught = {name: objective for name, objective in self.objectives.items() if objective.taught}
        return {name: objective.teacher_of(init_from) for name, objective in taught.items()}

    @property
    def has_images(self) -> bool:
        """Whether its texts belong to images or videos."""
        return self.layout in ("images", "boxes", None)

    @property
    def has_videos(self) -> bool:
        """Whether pretraining on videos draws its rows."""
        return isinstance(self.task, PretrainingConfig) and self.task.videos

    @property
    def image_stream(self) -> str | None:
        """Name of the stream whose records and images it uses; None for its own."""
        return self.task.image_stream if isinstance(self.task, PretrainingConfig) else None

    @property
    def records_a_step(self) -> int:
        """Records drawn per step."""
        if isinstance(self.task, PretrainingConfig):
            return self.task.records(self.batch_size, self.block)
        return self.batch_size

    def loss(self, name: LossName) -> LossConfig:
        """Return the settings of one loss."""
        return self.losses.get(name, LossConfig())

    def losses_on(self, step: int, steps: int) -> tuple[LossName, ...]:
        """Return the losses that are on at `step` (from 0) of a run of `steps`, in logged order."""
        if self.weight == 0:
            return ()
        return tuple(name for name in self.task.losses if self.loss(name).on(step, steps))

    def objectives_on(self, step: int, steps: int) -> tuple[str, ...]:
        """Return the objectives that are on at `step` (from 0) of a run of `steps`."""
        if self.weight == 0:
            return ()
        return tuple(name for name, objective in self.objectives.items() if objective.on(step, steps))

    def is_on(self, step: int, steps: int) -> bool:
        """Return whether any loss or objective is on at `step` (from 0) of a run of `steps`."""
        return bool(self.losses_on(step, steps) or self.objectives_on(step, steps))


class DataConfig(BaseModel):
    """All streams of a run; every step takes one batch of each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    streams: dict[str, StreamConfig] = Field(
        {}, description="the streams by name; none in a recipe that only evaluates"
    )
    num_workers: Annotated[int, HARMLESS] = Field(
        0, ge=0, description="worker processes that prepare batches; 0 prepares them in the main process"
    )
    feature_cache: Annotated[Path | None, FROM_HERE] = Field(
        None,
        description="folder in which the outputs of a frozen vision encoder are kept, computed once before the first "
        "step and used in place of images in every epoch and run; null computes them in every step",
    )
    feature_views: int | None = Field(
        None,
        gt=0,
        description="with feature_cache, views of an image that are drawn once and cached, of which each epoch takes "
        "the next; null for images that are not cropped, flipped or augmented at random",
    )
    max_bad_share: Annotated[float, HARMLESS] = Field(
        0.01, ge=0, le=1, description="share of broken records above which the run stops with a summary"
    )
    limits: LimitsConfig = Field(
        LimitsConfig(),
        description="limits on the decoded size of a record, and the image formats allowed; also in evaluation",
    )


class Phase(NamedTuple):
    """Steps `start` to `stop` (exclusive, from 0) in which the same losses are on.

    Attributes:
        losses: of each stream.
        objectives: of each stream, by their names in the recipe.
    """

    start: int
    stop: int
    losses: Mapping[str, tuple[LossName, ...]]
    objectives: Mapping[str, tuple[str, ...]]

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.stop - self.start

    @property
    def names(self) -> tuple[str, ...]:
        """STREAM.LOSS and STREAM.OBJECTIVE as in metrics.jsonl, in the order of the recipe."""
        return tuple(
            f"{stream}.{name}"
            for stream, on in self.losses.items()
            for name in (*on, *self.objectives[stream])
        )


def loss_phases(data: DataConfig, steps: int) -> list[Phase]:
    """Split a run of `steps` where losses or objectives start or stop; the phases cover all steps."""
    edges = {0, steps}
    for stream in data.streams.values():
        spans = [(loss.start, loss.stop) for loss in stream.losses.values()]
        spans += [(objective.start, objective.stop) for objective in stream.objectives.values()]
        edges |= {math.ceil(share * steps) for span in spans for share in span}
    phases: list[Phase] = []
    for start, stop in pairwise(sorted(edges)):
        losses = {name: stream.losses_on(start, steps) for name, stream in data.streams.items()}
        objectives = {name: stream.objectives_on(start, steps) for name, stream in data.streams.items()}
        if phases and (phases[-1].losses, phases[-1].objectives) == (losses, objectives):
            phases[-1] = phases[-1]._replace(stop=stop)
        else:
            phases.append(Phase(start, stop, losses, objectives))
    return phases
