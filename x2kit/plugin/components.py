"""Base classes of components, the settings that plugins register. Imports no torch.

A component is a frozen pydantic class. Its fields are its settings, its class name is its name in recipes, its base
class is its kind, and `build` creates the working object. `describe` returns what other parts of the model need before
any weight exists. It raises `SettingError` for invalid settings, so that a wrong recipe fails in a second and not
after an hour.

Shape letters, here and everywhere: B rows, L text tokens, N patches, D width, M distinct images (or texts).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from x2kit.errors import SettingError
from x2kit.plugin.choice import choice_schema
from x2kit.plugin.facts import FusionFacts, Published, TextFacts, VisionFacts
from x2kit.plugin.objectives import MeanOver
from x2kit.plugin.toolkit.official_keys import Shapes
from x2kit.plugin.toolkit.pretrained import published_model

if TYPE_CHECKING:
    from torch import Tensor, nn

    from x2kit.plugin.encoders import FusionEncoder, TextDecoder, TextEncoder, VisionEncoder
    from x2kit.plugin.indexes import Index, IndexSpec
    from x2kit.plugin.objectives import Objective
    from x2kit.plugin.sources import Source
    from x2kit.plugin.tasks import Task, TaskContext
    from x2kit.plugin.tokenizers import Tokenizer

Kind = Literal[
    "vision", "text", "fusion", "head", "source", "task", "objective", "optimizer", "reporter", "index"
]


class ComponentConfig(BaseModel):
    """Base of every component. Subclass one of the kinds below."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
    kind: ClassVar[Kind]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let a field typed as the base class of a kind take any component of that kind."""
        is_field_of_kind = "kind" in cls.__dict__ and cls.__pydantic_complete__  # not while the class is made
        return choice_schema(cls) if is_field_of_kind else handler(source)

    @classmethod
    def component_name(cls) -> str:
        """Return the name in recipes: the class name."""
        return cls.__name__

    def reads_weights_of(self, other: ComponentConfig) -> bool:
        """Whether an encoder with these settings can load weights of one with the settings `other`.

        By default if both have the same component name, and these settings name no other pretrained weights.
        """
        wanted = getattr(self, "pretrained", None)
        known = getattr(other, "pretrained", None)
        return self.component_name() == other.component_name() and wanted in (None, known)

    def no_export(self) -> str | None:
        """Say why an encoder with these settings cannot be exported (`x2kit export`); None, the default, if it can.

        `torch.export` traces it: no control flow on values of tensors, and x.shape[0] for len(x), which fixes it.
        """
        return None

    def usual_lr(self) -> float | None:
        """Return a suitable peak learning rate for the pretrained weights; None without any.

        By default 1e-4, as in X²-VLM, for a component whose `pretrained` is set. Far above it recipes get a warning.
        """
        return None if getattr(self, "pretrained", None) is None else 1e-4

    def published(self) -> Published | None:
        """Describe the published weights that `pretrained` names, for model cards; None without any."""
        return published_model(getattr(self, "pretrained", None))

    def in_place_of(self, other: ComponentConfig) -> Self:
        """Return the settings to use where a recipe replaces the encoder `other` by this one; by default unchanged.

        An encoder of any size returns a copy in which sizes that are not set are those of `other`, so that the other
        parts still fit. It may raise SettingError if `other` cannot be described; then the settings are not changed.
        """
        return self


class VisionEncoderConfig(ComponentConfig):
    """Settings of a vision encoder.

    `official_end_token` says whether the official code with this encoder ends texts of BERT in the end token: X²-VLM
    does, X-VLM does not.
    """

    kind: ClassVar[Kind] = "vision"
    official_end_token: ClassVar[bool] = True

    @classmethod
    def from_official(cls, shapes: Shapes) -> Self | None:
        """Infer the settings of the encoder in an official checkpoint from shapes; None for another architecture.

        A component that reads official checkpoints overrides this and `Encoder.official_names`.
        """
        return None

    def at_image_size(self, image_size: int) -> Self:
        """Return the same encoder for another image size; see `Encoder.fit`. Raises SettingError if it is fixed."""
        if "image_size" not in type(self).model_fields:
            raise SettingError("image_size", f"{self.component_name()} has no such setting")
        return self.model_validate({**self.model_dump(), "image_size": image_size})

    @abstractmethod
    def describe(self) -> VisionFacts:
        """Return image, width and grid. Raises SettingError for invalid settings."""
        raise NotImplementedError

    @abstractmethod
    def build(self, assets: Path | None = None) -> VisionEncoder:
        """Build the encoder, with pretrained weights if the settings name any.

        Args:
            assets: a directory written by `save_assets`. If given, only the architecture is built: no pretrained
                weights are read, since saved ones are loaded next.
        """
        raise NotImplementedError


class TextEncoderConfig(ComponentConfig):
    """Settings of a text encoder and its tokenizer.

    `official_stack` limits `from_official` to checkpoints whose text and fusion layers are one stack (True) or not
    (False), where shapes do not tell components apart; None for both.
    """

    kind: ClassVar[Kind] = "text"
    official_stack: ClassVar[bool | None] = None

    @classmethod
    def from_official(cls, shapes: Shapes, heads: int | None = None) -> Self | None:
        """Infer the settings as `VisionEncoderConfig.from_official`.

        Args:
            heads: attention heads of the checkpoint's vision encoder, if its shapes define them; see
                `x2kit.plugin.toolkit.usual_heads`.
        """
        return None

    @property
    def ends_texts(self) -> bool:
        """Whether the tokenizer ends each text in `sep`."""
        return True

    def without_end_token(self) -> Self:
        """Return the settings of an encoder whose texts do not end in the end token; by default unchanged.

        The converter asks for it where the vision encoder's `official_end_token` is False.
        """
        return self

    def official_tokenizer(self, name: str | None) -> Tokenizer:
        """Return the tokenizer for an official checkpoint, which does not contain one.

        Args:
            name: a published name or a directory; None for a placeholder that handles ids only.
        Raises: SettingError or WeightsError if it does not fit the word embedding.
        """
        raise SettingError("class_path", f"{self.component_name()} does not read official checkpoints")

    def usual_tokenizer(self) -> str | None:
        """Return the published name of the tokenizer that official checkpoints with this vocabulary were trained with.

        Taken for a checkpoint without a given tokenizer. Returns None if the vocabulary is not a published one.
        """
        return None

    def pretrained_mlm_head(self) -> dict[str, Tensor]:
        """Load the masked-language head from the file of the pretrained weights.

        Returns: dense.weight [D, D], dense.bias [D], norm.weight [D], norm.bias [D], decoder.weight [V, D],
            decoder.bias [V], where V is the whole vocabulary.
        Raises: SettingError if there is no such file, WeightsError if it has no such head.
        """
        raise SettingError(
            "class_path",
            f"{self.component_name()} has no pretrained masked-language head; set mlm_pretrained to false",
        )

    def build_decoder(self, tokenizer: Tokenizer, layers: int, assets: Path | None = None) -> TextDecoder:
        """Build an answer decoder with layers like the encoder's. Raises SettingError if there is none."""
        raise SettingError("class_path", f"{self.component_name()} has no decoder; remove decoder_layers")

    def largest_tokenizer(self) -> Tokenizer | None:
        """Return a placeholder for the trained tokenizer with its maximum number of ids; None if unknown.

        Used to estimate costs where the texts are not available.
        """
        return None

    @abstractmethod
    def describe(self) -> TextFacts:
        """Return width, longest text and vocabulary. Raises SettingError for invalid settings."""
        raise NotImplementedError

    @abstractmethod
    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        """Build or read the tokenizer.

        Args:
            texts: the run's texts, used only if the tokenizer is trained on them.
            assets: a directory written by the tokenizer's `save`; if given, the tokenizer is read from it.
        """
        raise NotImplementedError

    @abstractmethod
    def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
        """Build the encoder for this tokenizer; `assets` as in `VisionEncoderConfig.build`."""
        raise NotImplementedError


class FusionEncoderConfig(ComponentConfig):
    """Settings of a fusion encoder.

    `images` is the maximum number of images of a text row: 2 for an encoder of image pairs; see `Context`.
    """

    kind: ClassVar[Kind] = "fusion"
    images: ClassVar[int] = 1

    @classmethod
    def from_official(cls, shapes: Shapes, heads: int | None = None) -> Self | None:
        """Infer the settings as `TextEncoderConfig.from_official`; layers are numbered from 0.

        `shapes` lacks the matrices of keys and values of a layer's cross-attention that equal those of the layer
        before, as in X-VLM's models of NLVR2, whose layers are doubled.
        """
        return None

    @abstractmethod
    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        """Return output width and depth. Raises SettingError for unsupported widths of texts or contexts."""
        raise NotImplementedError

    @abstractmethod
    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> FusionEncoder:
        """Build the encoder; `assets` as in `VisionEncoderConfig.build`."""
        raise NotImplementedError


class SourceConfig(ComponentConfig):
    """Settings of a data source."""

    kind: ClassVar[Kind] = "source"

    @abstractmethod
    def check(self) -> None:
        """Raise SettingError for errors that are visible without reading the data, such as a missing file."""
        raise NotImplementedError

    @abstractmethod
    def languages(self) -> tuple[str, ...] | None:
        """Return the language codes of its texts, in a fixed order; None if they are known only after reading."""
        raise NotImplementedError

    @abstractmethod
    def open(self) -> Source:
        """Open the records."""
        raise NotImplementedError

    def for_split(self, split: str) -> Self:
        """Return the settings for another split. Sources with a `split` setting need not override this."""
        if "split" not in type(self).model_fields:
            raise SettingError("split", f"{self.component_name()} has no splits, found {split!r}")
        return self.model_validate({**self.model_dump(), "split": split})


class HeadConfig(ComponentConfig):
    """Settings of a head that a task adds to the model; `model.heads.extra` names it."""

    kind: ClassVar[Kind] = "head"

    lr_mult: float = Field(1.0, gt=0, description="factor of the learning rate of its parameters")

    @abstractmethod
    def build(self, width: int) -> nn.Module:
        """Build the head for fused states of this width. Import torch here, not with the settings."""
        raise NotImplementedError


class TaskConfig(ComponentConfig):
    """Settings of a task, which a stream trains (`data.streams.NAME.task`) and an evaluation measures.

    `losses` are the names of its losses, in the order in which they are logged; a task without any is only measured.
    `score` is the name of the main number of `Task.measure`; higher is better. `metrics` names the main numbers of the
    result, so that `evaluation.select` is checked before training; empty for no check.
    `produces` says that `Task.rank` gives texts for a record of an image or video: answers to its `question`, or
    descriptions; `x2kit answer` and `x2kit describe` use it.
    `pooled` says that only position 0 of the fused states is read, which saves most of the last fusion layer.
    """

    kind: ClassVar[Kind] = "task"
    losses: ClassVar[tuple[str, ...]] = ()
    score: ClassVar[str] = "accuracy"
    metrics: ClassVar[tuple[str, ...]] = ()
    pooled: ClassVar[bool] = True
    produces: ClassVar[Literal["answer", "description"] | None] = None

    max_words: int = Field(40, gt=0, description="evaluation: words kept of a text")
    max_tokens: int = Field(
        40,
        gt=2,
        description="evaluation: tokens kept of a text, special ones included; never more than the encoder's",
    )

    @property
    def pairs(self) -> tuple[tuple[int, int | tuple[int, ...]], ...]:
        """Text and image of a row, each by its place, that are fused; by default the first text with the first image.

        Two images of one text: ((0, 0), (0, 1)), or ((0, (0, 1)),) for a fusion encoder of image pairs. Three texts of
        one image: ((0, 0), (1, 0), (2, 0)).
        """
        return ((0, 0),)

    @property
    def drawn_images(self) -> int:
        """Number of images of a row; fewer than `pairs` names if `Task.choose_images` adds others of the batch."""
        places = (image if isinstance(image, tuple) else (image,) for _, image in self.pairs)
        return len({place for several in places for place in several})

    def missing_heads(self, heads: Any) -> Mapping[str, str]:
        """Compare with the recipe's `model.heads`. Returns: messages by setting of `model.heads`, empty if all fit."""
        return {}

    def build(self) -> Task:
        """Build the task of a run or an evaluation. Import torch here, not with the settings."""
        raise NotImplementedError(f"{self.component_name()} is measured by `run` and not trained")

    def check(self, context: TaskContext) -> None:
        """Check that the records suit the task. Called for all tasks before the first `run`.

        Raises: DataError that names the missing field and the setting to change.
        """

    def run(self, context: TaskContext) -> Mapping[str, Any] | None:
        """Measure, and return numbers, strings and lists for `evaluation.json`.

        None, the default, measures the predictions of `build()` by language.
        """
        return None


class ObjectiveConfig(ComponentConfig):
    """Settings of an objective: an additional loss of a stream, with its own weight and name.

    `over` is what the loss is a mean over, "pairs" by default, or "rows"; see `Objective`. `taught` says that it reads
    `StreamFeatures.teacher`, the embeddings of a trained model; such an objective has `over` "rows".
    """

    kind: ClassVar[Kind] = "objective"
    over: ClassVar[MeanOver] = "pairs"
    taught: ClassVar[bool] = False

    weight: float = Field(1.0, ge=0, description="factor of this loss; 0 disables it")
    start: float = Field(0.0, ge=0, le=1, description="share of all steps at which it starts")
    stop: float = Field(1.0, ge=0, le=1, description="share of all steps at which it ends")

    def on(self, step: int, steps: int) -> bool:
        """Whether the loss is active at this step (from 0) of `steps`."""
        return self.weight > 0 and self.start * steps <= step < self.stop * steps

    def teacher_of(self, init_from: str | None) -> str | None:
        """Name the teacher of an objective that is `taught`; by default the model that the run starts from."""
        return init_from

    @abstractmethod
    def build(self) -> Objective:
        """Build the objective of one run. Import torch here, not with the settings."""
        raise NotImplementedError


class IndexConfig(ComponentConfig):
    """Settings of a vector index: a database that stores and searches embeddings, see `x2kit.plugin.Index`.

    The settings are stored beside the table, so that they must not hold secrets. `unsupported` names operators of SQL,
    such as LIKE, that raise DataError in conditions. `default` marks the component of new tables that name none.
    """

    kind: ClassVar[Kind] = "index"
    default: ClassVar[bool] = False
    unsupported: ClassVar[frozenset[str]] = frozenset()

    @property
    def shared(self) -> bool:
        """Whether other processes can open the table; False for a table in memory."""
        return True

    def check(self) -> None:
        """Raise SettingError for errors that are visible before opening, such as a missing library."""

    @abstractmethod
    def create(self, location: str, spec: IndexSpec) -> Index:
        """Create an empty table and open it. Import libraries here, not with the settings.

        Args:
            location: a folder, created if it does not exist, which may have other files; or a URL where supported.
        Raises: DataError if there is a table already, or the location is not supported.
        """
        raise NotImplementedError

    @abstractmethod
    def open(self, location: str) -> Index:
        """Open an existing table. Raises DataError if there is none or it cannot be read."""
        raise NotImplementedError
