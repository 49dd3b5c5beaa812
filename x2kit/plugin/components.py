"""Settings of components: what a recipe writes, what a plugin registers. Imports no torch.

A component is a frozen pydantic class. Its fields are its settings, its class name is its name in recipes,
its base class says its kind, and `build` makes the working object. `describe` tells what the rest of the
model must know before any weight is made; it raises `SettingError` for settings that cannot be, so that a
wrong recipe is refused in a second and not after an hour.

Shape letters, here and everywhere: B rows, L text tokens, N patches, D width, M distinct images (or texts).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from x2kit.plugin.choice import choice_schema
from x2kit.plugin.facts import FusionFacts, TextFacts, VisionFacts
from x2kit.plugin.objectives import MeanOver
from x2kit.plugin.toolkit.official_keys import Shapes

if TYPE_CHECKING:
    from torch import Tensor

    from x2kit.plugin.encoders import FusionEncoder, TextDecoder, TextEncoder, VisionEncoder
    from x2kit.plugin.objectives import Objective
    from x2kit.plugin.reporters import Reporter
    from x2kit.plugin.sources import Source
    from x2kit.plugin.tasks import TaskContext
    from x2kit.plugin.tokenizers import Tokenizer

Kind = Literal["vision", "text", "fusion", "source", "task", "objective", "reporter"]


@dataclass(frozen=True)
class PathOrName:
    """Marks a text setting that may be a path: a recipe then reads it relative to the file that holds it."""


NameOrPath = Annotated[str, PathOrName()]
"""A published name or a local path, for settings like `pretrained`. It is a path if it starts with `./`,
`../`, `/` or `~`, or if something of this name lies beside the recipe file that holds it."""


@dataclass(frozen=True)
class PathOrUrl:
    """Marks a text setting that is a path or a URL: a recipe reads a path relative to the file that holds it."""


Location = Annotated[
    str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value), PathOrUrl()
]
"""A local path or a URL (`s3://bucket/part-*.jsonl`, `hf://`, `https://`), for settings of data sources."""


class ComponentConfig(BaseModel):
    """The base of every component. Subclass one of the kinds below, not this."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
    kind: ClassVar[Kind]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let a field typed as the base class of a kind take any component of that kind."""
        is_field_of_kind = "kind" in cls.__dict__ and cls.__pydantic_complete__  # not while the class is made
        return choice_schema(cls) if is_field_of_kind else handler(source)

    @classmethod
    def component_name(cls) -> str:
        """The name that recipes use: the class name."""
        return cls.__name__

    def reads_weights_of(self, other: ComponentConfig) -> bool:
        """Whether an encoder with these settings goes on from weights of one with those.

        By default if both are one component by name, and these settings name no pretrained weights that those do not.
        """
        wanted = getattr(self, "pretrained", None)
        known = getattr(other, "pretrained", None)
        return self.component_name() == other.component_name() and wanted in (None, known)

    def usual_lr(self) -> float | None:
        """Peak learning rate that suits the published weights that these settings name; None if they name none.

        By default 1e-4, X²-VLM's, for a component whose `pretrained` is set. Recipes are warned about far above it.
        """
        return None if getattr(self, "pretrained", None) is None else 1e-4

    def in_place_of(self, other: ComponentConfig) -> Self:
        """These settings where a recipe exchanges the encoder `other` for this one; by default unchanged.

        An encoder of any size returns a copy in which the sizes that the recipe leaves open are those of `other`, so
        that what was built around `other` fits. It may raise SettingError if `other` cannot be described; then all
        settings stay as they are.
        """
        return self


class VisionEncoderConfig(ComponentConfig):
    """Settings of a vision encoder."""

    kind: ClassVar[Kind] = "vision"

    @classmethod
    def from_official(cls, shapes: Shapes) -> Self | None:
        """The settings of the encoder in an official checkpoint, from its tensors; None if it is another kind.

        A component that reads official checkpoints overrides this, and `Encoder.official_names`.
        """
        return None

    def at_image_size(self, image_size: int) -> Self:
        """The same encoder for another image size. Raises SettingError if it cannot be; see `Encoder.fit`."""
        from x2kit.errors import SettingError

        if "image_size" not in type(self).model_fields:
            raise SettingError("image_size", f"{self.component_name()} has no such setting")
        return self.model_validate({**self.model_dump(), "image_size": image_size})

    @abstractmethod
    def describe(self) -> VisionFacts:
        """Image, width and grid. Raises SettingError for settings that cannot be."""
        raise NotImplementedError

    @abstractmethod
    def build(self, assets: Path | None = None) -> VisionEncoder:
        """The encoder, with pretrained weights where the settings name some.

        Args:
            assets: a directory that this encoder's `save_assets` once wrote. When given, only the
                architecture is wanted: no pretrained weights are read, since saved ones are about to be loaded.
        """
        raise NotImplementedError


class TextEncoderConfig(ComponentConfig):
    """Settings of a text encoder, which owns its tokenizer."""

    kind: ClassVar[Kind] = "text"

    @classmethod
    def from_official(cls, shapes: Shapes, heads: int | None = None) -> Self | None:
        """As `VisionEncoderConfig.from_official`.

        Args:
            heads: attention heads of the checkpoint's vision encoder where its shapes tell them; see
                `x2kit.plugin.toolkit.official_keys.usual_heads`.
        """
        return None

    def official_tokenizer(self, name: str | None) -> Tokenizer:
        """The tokenizer of an official checkpoint, which does not hold one itself.

        Args:
            name: a published name or a directory; None for a stand-in that handles ids only.
        Raises: SettingError or WeightsError if it does not fit the word embedding.
        """
        from x2kit.errors import SettingError

        raise SettingError("class_path", f"{self.component_name()} reads no official checkpoint")

    def pretrained_mlm_head(self) -> dict[str, Tensor]:
        """The masked-language head of the file that the pretrained weights are from.

        Returns: dense.weight [D, D], dense.bias [D], norm.weight [D], norm.bias [D], decoder.weight [V, D],
            decoder.bias [V], the last two for the whole vocabulary.
        Raises: SettingError if there is no such file, WeightsError if it holds no such head.
        """
        from x2kit.errors import SettingError

        raise SettingError(
            "class_path",
            f"{self.component_name()} brings no masked-language head; set mlm_pretrained to false",
        )

    def build_decoder(self, tokenizer: Tokenizer, layers: int, assets: Path | None = None) -> TextDecoder:
        """A decoder of answers whose layers are like the encoder's. Raises SettingError if it has none."""
        from x2kit.errors import SettingError

        raise SettingError("class_path", f"{self.component_name()} has no decoder; leave out decoder_layers")

    def largest_tokenizer(self) -> Tokenizer | None:
        """A stand-in with the most ids that a tokenizer trained on the run's texts can get; None if that is unknown.

        Costs are computed with it where the texts are not there.
        """
        return None

    @abstractmethod
    def describe(self) -> TextFacts:
        """Width, longest text, vocabulary. Raises SettingError for settings that cannot be."""
        raise NotImplementedError

    @abstractmethod
    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        """The tokenizer.

        Args:
            texts: the run's own texts, read only by an encoder whose tokenizer is trained on them.
            assets: a directory that the tokenizer's `save` once wrote; read instead of anything else.
        """
        raise NotImplementedError

    @abstractmethod
    def build(self, tokenizer: Tokenizer, assets: Path | None = None) -> TextEncoder:
        """The encoder for this tokenizer; `assets` as in `VisionEncoderConfig.build`."""
        raise NotImplementedError


class FusionEncoderConfig(ComponentConfig):
    """Settings of a fusion encoder."""

    kind: ClassVar[Kind] = "fusion"

    @classmethod
    def from_official(cls, shapes: Shapes, heads: int | None = None) -> Self | None:
        """As `TextEncoderConfig.from_official`; layers are numbered from 0."""
        return None

    @abstractmethod
    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        """Output width and depth. Raises SettingError if it cannot fuse texts and contexts so wide."""
        raise NotImplementedError

    @abstractmethod
    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> FusionEncoder:
        """The encoder; `assets` as in `VisionEncoderConfig.build`."""
        raise NotImplementedError


class SourceConfig(ComponentConfig):
    """Settings of a data source."""

    kind: ClassVar[Kind] = "source"

    @abstractmethod
    def check(self) -> None:
        """Raise SettingError for what can be known without reading the data, such as a missing file."""
        raise NotImplementedError

    @abstractmethod
    def languages(self) -> tuple[str, ...] | None:
        """Codes of the languages that its texts can have, in a fixed order; None if only reading tells."""
        raise NotImplementedError

    @abstractmethod
    def open(self) -> Source:
        """The records, by position."""
        raise NotImplementedError

    def for_split(self, split: str) -> Self:
        """The same data, another part of it. Sources that have a `split` setting need not override this."""
        from x2kit.errors import SettingError

        if "split" not in type(self).model_fields:
            raise SettingError("split", f"{self.component_name()} has no parts, so it has no {split!r}")
        return self.model_validate({**self.model_dump(), "split": split})


class TaskConfig(ComponentConfig):
    """Settings of an evaluation task."""

    kind: ClassVar[Kind] = "task"

    def check(self, context: TaskContext) -> None:
        """Check that the records can be measured. Called for all tasks before the first `run`.

        Raises: DataError that says what is missing and which setting to change.
        """

    @abstractmethod
    def run(self, context: TaskContext) -> Mapping[str, Any]:
        """Measure. What comes back goes into `evaluation.json`, so it holds numbers, texts and lists."""
        raise NotImplementedError


class ObjectiveConfig(ComponentConfig):
    """Settings of an objective: a further loss of a stream, with a weight and a name of its own.

    What it is a mean over, `over`, is "pairs" unless the class says "rows"; see `Objective`.
    """

    kind: ClassVar[Kind] = "objective"
    over: ClassVar[MeanOver] = "pairs"

    weight: float = Field(1.0, ge=0, description="factor of this loss; 0 leaves it out")
    start: float = Field(0.0, ge=0, le=1, description="share of all steps after which it is on")
    stop: float = Field(1.0, ge=0, le=1, description="share of all steps after which it is off again")

    def on(self, step: int, steps: int) -> bool:
        """Whether the loss counts at this step (from 0) of a run of so many steps."""
        return self.weight > 0 and self.start * steps <= step < self.stop * steps

    @abstractmethod
    def build(self) -> Objective:
        """The objective of one run. Torch is imported here, not with the settings."""
        raise NotImplementedError


class ReporterConfig(ComponentConfig):
    """Settings of a reporter, which carries the numbers of a run elsewhere."""

    kind: ClassVar[Kind] = "reporter"

    def check(self) -> None:
        """Raise SettingError for what can be known before the run, such as a library that is not installed."""

    @abstractmethod
    def build(self) -> Reporter:
        """The reporter of one run. Libraries are imported here, not with the settings."""
        raise NotImplementedError


KINDS: dict[Kind, type[ComponentConfig]] = {
    "vision": VisionEncoderConfig,
    "text": TextEncoderConfig,
    "fusion": FusionEncoderConfig,
    "source": SourceConfig,
    "task": TaskConfig,
    "objective": ObjectiveConfig,
    "reporter": ReporterConfig,
}
