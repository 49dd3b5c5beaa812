"""Settings of data: streams of records and what is done to their images and texts. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from x2kit.data.storage.limits import LimitsConfig
from x2kit.plugin.choice import HARMLESS, require_own_names
from x2kit.plugin.components import ObjectiveConfig, SourceConfig

StreamKind = Literal["image-text", "region-text", "video-text", "parallel-text", "text"]
LossName = Literal["itc", "itm", "mlm", "bbox", "giou", "ttc", "ttm", "tlm"]

LOSSES: dict[StreamKind, tuple[LossName, ...]] = {
    "image-text": ("itc", "itm", "mlm"),
    "region-text": ("itc", "itm", "mlm", "bbox", "giou"),
    "video-text": ("itc", "itm", "mlm"),
    "parallel-text": ("ttc", "ttm", "tlm"),
    "text": ("mlm",),
}
"""The losses that each kind of stream has, in the order in which they are logged."""
IMAGE_KINDS: tuple[StreamKind, ...] = ("image-text", "region-text", "video-text")
"""The kinds of stream whose texts stand beside images or the frames of a video."""


class LossConfig(BaseModel):
    """One loss of a stream: how much it counts, and when."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    shorthand: ClassVar[str] = "weight"
    """The field that a number alone means; recipes that are laid over it may add the others."""

    weight: float = Field(1.0, ge=0, description="factor of this loss; 0 leaves it out")
    start: float = Field(0.0, ge=0, le=1, description="share of all steps after which it is on")
    stop: float = Field(1.0, ge=0, le=1, description="share of all steps after which it is off again")

    def on(self, step: int, steps: int) -> bool:
        """Whether the loss counts at this step (from 0) of a run of so many steps."""
        return self.weight > 0 and self.start * steps <= step < self.stop * steps


def _number_is_weight(value: Any) -> Any:
    return {"weight": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


LossSetting = Annotated[LossConfig, BeforeValidator(_number_is_weight)]


class TransformConfig(BaseModel):
    """What is done to an image before the encoder sees it (paper, section on pre-training)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_scale: tuple[float, float] | None = Field(
        (0.2, 1.0), description="random resized crop: smallest and largest share of the area; null for none"
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    careful_flip: bool = Field(False, description="no flip where a text says left or right")
    augment_operations: int = Field(
        2, ge=0, description="random colour and shape operations an image (RandAugment)"
    )
    augment_colour: bool = Field(
        True,
        description="colour operations are among them; false leaves those of shape, which fit images of any channels "
        "and depth",
    )
    augment_level: int = Field(7, ge=0, le=10, description="strength of these operations")
    reduced_decoding: bool = Field(
        False,
        description="decode JPEG images at half, a quarter or an eighth of their size where the crop stays at least "
        "as large as what the encoder takes: faster for large images, which look the same",
    )


class MaskingConfig(BaseModel):
    """Which tokens are masked for masked language modelling (paper, section on pre-training)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask_prob: float = Field(0.5, gt=0, le=1, description="share of the tokens to predict")
    max_masks: int = Field(12, gt=0, description="most tokens to predict in a text")
    skipgram_prob: float = Field(
        0.2, ge=0, le=1, description="probability that a span is masked, not one token"
    )
    skipgram_size: int = Field(3, ge=2, description="longest span")
    whole_words: bool = Field(True, description="mask all pieces of a word together")


class StreamConfig(BaseModel):
    """One stream of training data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: StreamKind = Field(
        description="what a record is: image-text, region-text, video-text, parallel-text or text"
    )
    source: SourceConfig = Field(description="where the records come from")
    batch_size: int = Field(
        gt=0, description="rows a step: texts for image, region, video and text streams, pairs else"
    )
    images_from: str | None = Field(
        None,
        description="region-text: take the images that this image-text stream has drawn, so that each is "
        "decoded and encoded once for both; the source of this stream must be the same",
    )
    max_images: int | None = Field(
        None, gt=0, description="region-text: images a step; rows beyond batch_size are drawn away"
    )
    max_regions: int = Field(5, gt=0, description="region-text: most texts of one image")
    max_boxes: int = Field(
        1000, gt=0, description="region-text: a record with more boxes than this counts as broken"
    )
    frames: int = Field(3, gt=0, description="video-text: frames of a video that are seen")
    min_clip_frames: int = Field(
        8,
        gt=0,
        description="video-text: clips that follow each other are joined until they have so many frames to draw from",
    )
    languages: tuple[str, ...] | None = Field(None, description="languages to draw texts from; null for all")
    pivot: str | None = Field(
        None, description="parallel-text: a language that is one side of every pair; null draws both sides"
    )
    fusion_rows: int | None = Field(
        None,
        gt=1,
        description="rows that go through the fusion encoder, for matching, boxes and masked language; the rest "
        "serves the contrastive loss and as negatives; null for all",
    )
    weight: float = Field(1.0, ge=0, description="factor of the sum of this stream's losses")
    losses: dict[LossName, LossSetting] = Field(
        {},
        description="weight, start and stop of single losses; those not named have weight 1 from the start",
    )
    objectives: dict[str, ObjectiveConfig] = Field(
        {},
        description="further losses of this stream, from plugins, by names of your choice: letters, digits, - and _. "
        "They are logged as STREAM.NAME and count with weights of their own",
    )
    positives: Literal["row", "text", "image"] = Field(
        "row",
        description="rows that count as right beside the own one: none, those of equal text or equal image",
    )
    block: int = Field(
        1, gt=0, description="records are shuffled in blocks of so many neighbours, which stay in one batch"
    )
    max_words: int = Field(40, gt=0, description="words of a text that are kept")
    max_tokens: int = Field(40, gt=2, description="tokens of a text that are kept, special tokens included")
    transform: TransformConfig = Field(TransformConfig(), description="what is done to the images")
    masking: MaskingConfig = Field(MaskingConfig(), description="which tokens are masked")

    @model_validator(mode="after")
    def _losses_fit_kind(self) -> StreamConfig:
        surplus = [name for name in self.losses if name not in LOSSES[self.kind]]
        if surplus:
            allowed = ", ".join(LOSSES[self.kind])
            raise ValueError(f"a {self.kind} stream has no loss {', '.join(surplus)}; it has {allowed}")
        self._require_objectives_fit()
        if self.images_from is not None and self.kind != "region-text":
            raise ValueError("images_from is for region-text streams")
        if self.positives == "image" and self.kind not in IMAGE_KINDS:
            raise ValueError(f"positives: a {self.kind} stream has no images; it takes row or text")
        records = self.records_a_step
        if self.images_from is None and records % self.block:
            raise ValueError(
                f"block: {records} records a step cannot be blocks of {self.block}; choose a divisor"
            )
        return self

    def _require_objectives_fit(self) -> None:
        if self.objectives and self.kind == "text":
            raise ValueError(
                f"objectives: a text stream has masked texts alone, nothing for {', '.join(self.objectives)} to compare"
            )
        require_own_names("objectives: a name", self.objectives)
        for name in self.objectives:
            logged = name == "padding" or name.startswith(("images_", "rows_")) or name.endswith("_accuracy")
            if name in get_args(LossName) or logged:
                raise ValueError(
                    f"objectives: {name} is logged of every such stream already; take another name"
                )

    @property
    def records_a_step(self) -> int:
        """Records that a step draws; for regions without `images_from` 50 for 128 rows, as in the paper."""
        if self.kind != "region-text":
            return self.batch_size
        blocks = math.ceil(self.batch_size * 50 / 128 / self.block)
        return self.max_images or blocks * self.block

    def loss(self, name: LossName) -> LossConfig:
        """The settings of one loss."""
        return self.losses.get(name, LossConfig())

    def losses_on(self, step: int, steps: int) -> tuple[LossName, ...]:
        """The losses that count at this step (from 0) of a run of so many steps, in the order of `LOSSES`."""
        if self.weight == 0:
            return ()
        return tuple(name for name in LOSSES[self.kind] if self.loss(name).on(step, steps))

    def objectives_on(self, step: int, steps: int) -> tuple[str, ...]:
        """The objectives that count at this step (from 0) of a run of so many steps."""
        if self.weight == 0:
            return ()
        return tuple(name for name, objective in self.objectives.items() if objective.on(step, steps))

    def learned_from(self, step: int, steps: int) -> bool:
        """Whether anything of the stream counts at this step (from 0) of a run of so many steps."""
        return bool(self.losses_on(step, steps) or self.objectives_on(step, steps))


class DataConfig(BaseModel):
    """All streams of a run. Every step takes one batch of each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    streams: dict[str, StreamConfig] = Field(
        {}, description="the streams by name; none where nothing is trained"
    )
    num_workers: Annotated[int, HARMLESS] = Field(
        0, ge=0, description="processes that prepare batches; 0 prepares them in the main one"
    )
    max_bad_share: Annotated[float, HARMLESS] = Field(
        0.01, ge=0, le=1, description="share of broken records above which the run stops with a summary"
    )
    limits: LimitsConfig = Field(
        LimitsConfig(),
        description="how much a record may unpack to, and which image formats are decoded; also in evaluation",
    )


class Phase(NamedTuple):
    """Steps `start` to `stop` (exclusive, counted from 0) with the losses that are on in all of them.

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
        """STREAM.LOSS and STREAM.OBJECTIVE as metrics.jsonl names them, in the order of the recipe."""
        return tuple(
            f"{stream}.{name}"
            for stream, on in self.losses.items()
            for name in (*on, *self.objectives[stream])
        )


def loss_phases(data: DataConfig, steps: int) -> list[Phase]:
    """Split a run of so many steps where losses or objectives start or stop; the phases cover all steps."""
    edges = {0, steps}
    for stream in data.streams.values():
        spans = [(loss.start, loss.stop) for loss in stream.losses.values()]
        spans += [(objective.start, objective.stop) for objective in stream.objectives.values()]
        edges |= {math.ceil(share * steps) for span in spans for share in span}
    found: list[Phase] = []
    for start, stop in pairwise(sorted(edges)):
        losses = {name: stream.losses_on(start, steps) for name, stream in data.streams.items()}
        objectives = {name: stream.objectives_on(start, steps) for name, stream in data.streams.items()}
        if found and (found[-1].losses, found[-1].objectives) == (losses, objectives):
            found[-1] = found[-1]._replace(stop=stop)
        else:
            found.append(Phase(start, stop, losses, objectives))
    return found
