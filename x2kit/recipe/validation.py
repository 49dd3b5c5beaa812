"""What can be known of a recipe without weights: do its parts fit each other? Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from x2kit.data.config import IMAGE_KINDS, LOSSES, LossName, StreamConfig
from x2kit.errors import (
    DataError,
    Fault,
    MissingFileError,
    PluginError,
    RecipeError,
    SettingError,
    WidthError,
)
from x2kit.evaluation.config import EvaluationConfig
from x2kit.model.config import HeadName, ModelConfig
from x2kit.plugin.components import ComponentConfig, SourceConfig
from x2kit.plugin.facts import FusionFacts, ImageSpec, TextFacts, VisionFacts
from x2kit.recipe.faults import nearest
from x2kit.recipe.schema import Recipe

T = TypeVar("T")
Checks = Literal["all", "without data", "evaluation", "none"]
PAIRWISE: tuple[LossName, ...] = ("itc", "itm", "ttc", "ttm")
HEADS_OF: dict[LossName, tuple[HeadName, ...]] = {
    "itc": ("itc",),
    "ttc": ("itc",),
    "itm": ("itm", "itc"),  # its negatives are drawn by similarity
    "ttm": ("itm", "itc"),
    "mlm": ("mlm",),
    "tlm": ("mlm",),
    "bbox": ("bbox",),
    "giou": ("bbox",),
}
TEXT_AS_CONTEXT: tuple[LossName, ...] = ("ttm", "tlm")


@dataclass(frozen=True)
class ModelFacts:
    """What is known of the model before it exists."""

    vision: VisionFacts
    text: TextFacts
    fusion: FusionFacts


def validate(
    recipe: Recipe, checks: Checks = "all", place: Callable[[str], str] = lambda key: ""
) -> ModelFacts | None:
    """Check the parts of a recipe against each other.

    Args:
        recipe: components resolved.
        checks: "all"; "without data" all but whether files and folders of data are there; "evaluation" looks only at
            what measuring trained weights needs, which must be there; "none" at nothing.
        place: from a key to where it was written.
    Returns: the facts of the model, if all was checked.
    Raises: RecipeError with all faults found.
    """
    check = _Checks(recipe, place, data=checks != "without data")
    facts, whole = None, checks in ("all", "without data")
    if whole:
        facts = check.model()
        for name in recipe.data.streams:
            check.stream(name, facts)
        check.training()
    if checks == "evaluation" and recipe.evaluation is None:
        check.nothing_measured()
    if checks != "none" and recipe.evaluation is not None:
        check.evaluation(recipe.evaluation)
        if whole:
            check.apart(recipe.evaluation)
    if check.faults:
        raise RecipeError(check.faults)
    return facts


def losses_on(stream: StreamConfig) -> list[LossName]:
    """The losses of a stream that count at some step."""
    if stream.weight == 0:
        return []
    settings = {name: stream.loss(name) for name in LOSSES[stream.kind]}
    return [name for name, loss in settings.items() if loss.weight > 0 and loss.start < loss.stop]


def objectives_on(stream: StreamConfig) -> list[str]:
    """The objectives of a stream that count at some step."""
    if stream.weight == 0:
        return []
    found = stream.objectives.items()
    return [name for name, objective in found if objective.weight > 0 and objective.start < objective.stop]


class _Checks:
    def __init__(self, recipe: Recipe, place: Callable[[str], str], data: bool) -> None:
        self.faults: list[Fault] = []
        self._data = data
        self._recipe, self._place = recipe, place
        self._unusable: set[str] = set()
        self._measured: dict[str, SourceConfig] = {}

    def model(self) -> ModelFacts | None:
        """The three encoders, alone and together."""
        model = self._recipe.model
        vision = self._ask("model.vision", model.vision, model.vision.describe)
        text = self._ask("model.text", model.text, model.text.describe)
        if vision is None or text is None:
            return None
        if fault := vision.image.fault():
            self._fault("model.vision", f"{model.vision.component_name()} is wrong about its images: {fault}")
        fusion = self._ask(
            "model.fusion", model.fusion, lambda: model.fusion.describe(text.width, vision.width)
        )
        self._source_of_weights(model)
        if model.heads.context_positions and vision.width % 4:
            self._fault(
                "model.heads.context_positions",
                f"the positions take a vision width in fours, found {vision.width}; set this to 0 or change it",
            )
        return None if fusion is None else ModelFacts(vision, text, fusion)

    def _source_of_weights(self, model: ModelConfig) -> None:
        if model.init_from is None:
            if model.init_except:
                self._fault("model.init_except", "there is no model.init_from that anything could come from")
            return
        path = Path(model.init_from)
        if not any((place / "model.safetensors").is_file() for place in (path, path / "weights")):
            found = "holds no weights (model.safetensors)" if path.exists() else "does not exist"
            self._fault(
                "model.init_from",
                f"{path} {found}; give a weights directory, or the directory of a run that has ended",
            )

    def stream(self, name: str, facts: ModelFacts | None) -> None:
        """One stream: its source, its languages, its rows, and what the model takes."""
        stream, key = self._recipe.data.streams[name], f"data.streams.{name}"
        self._source(f"{key}.source", stream.source)
        spoken = self._languages(f"{key}.source", stream.source)
        self._spoken(f"{key}.languages", stream.languages, spoken)
        if stream.pivot is not None:
            self._spoken(f"{key}.pivot", (stream.pivot,), stream.languages or spoken)
        pool = stream.languages or spoken
        if stream.kind == "parallel-text" and pool is not None and len(set(pool)) < 2:
            self._fault(f"{key}.languages", f"parallel text needs two languages, found {', '.join(pool)}")
        if stream.images_from is not None:
            self._images(name, stream, f"{key}.images_from")
        pairwise = [loss for loss in losses_on(stream) if loss in PAIRWISE]
        if stream.batch_size < 2 and pairwise:
            self._fault(
                f"{key}.batch_size",
                f"{', '.join(pairwise)} compare a row with the others of its batch, "
                "so it must be 2 or more, found 1",
            )
        self._headed(stream, key)
        self._compared(stream, key)
        if stream.kind == "video-text":
            self._framed(name, stream, key)
        if facts is not None:
            self._fits(name, stream, key, facts)

    def training(self) -> None:
        """There is something to learn, or nothing is to be learned; and its reporters can report."""
        streams = self._recipe.data.streams
        for name, reporter in self._recipe.training.reporters.items():
            self._ask(f"training.reporters.{name}", reporter, reporter.check)
        if streams and "steps" not in self._recipe.training.model_fields_set:
            self._fault("training.steps", "missing: optimiser steps of the run")
        if not streams and self._recipe.training.steps:
            self._fault(
                "data.streams",
                f"there is nothing to train on in {self._recipe.training.steps} steps; add a stream of data, or set "
                "training.steps: 0, which saves the initial weights as they are",
            )
        if streams and not any(losses_on(stream) or objectives_on(stream) for stream in streams.values()):
            self._fault("data.streams", "no loss is on, so nothing would be learned; set a weight above 0")

    def nothing_measured(self) -> None:
        """Measuring was asked for, and the recipe does not say what."""
        self._fault(
            "evaluation",
            "missing: what is measured, on which records\n  lay a file over it that says so, --config FILE, or give "
            "--evaluation.source and --evaluation.tasks.NAME",
        )

    def evaluation(self, evaluation: EvaluationConfig) -> None:
        """The sources that are measured on, as they are for the split that is measured."""
        for name, source in evaluation.keyed_sources().items():
            key = f"evaluation.{name}"
            try:
                measured = source.for_split(evaluation.split)
            except (SettingError, DataError, ValueError) as error:
                self._fault("evaluation.split", getattr(error, "message", str(error)))
                continue
            self._source(key, measured)
            spoken = self._languages(key, measured)
            self._spoken("evaluation.languages", evaluation.languages, spoken)
            if key not in self._unusable:
                self._measured[key] = measured

    def apart(self, evaluation: EvaluationConfig) -> None:
        """Nothing is measured on what was trained on."""
        for key, measured in self._measured.items():
            for name, stream in self._recipe.data.streams.items():
                if stream.source == measured:
                    self._fault(
                        key,
                        f'its split "{evaluation.split}" is what stream "{name}" trains on; '
                        "measure on other records",
                    )

    def _fits(self, name: str, stream: StreamConfig, key: str, facts: ModelFacts) -> None:
        vision, text = facts.vision, facts.text
        if stream.max_tokens > text.max_length:
            self._fault(
                f"{key}.max_tokens",
                f"the text encoder takes {text.max_length} tokens at most, found {stream.max_tokens}",
            )
        reading = [loss for loss in losses_on(stream) if loss in TEXT_AS_CONTEXT]
        if reading and text.width != vision.width:
            self._fault(
                "model.text",
                f"its width {text.width} differs from that of model.vision, {vision.width}, but in {key} "
                f"{' and '.join(reading)} let the fusion encoder read texts as it reads images, "
                f"which takes one width\n  set {self._one_width(facts)}, or "
                + " and ".join(f"{key}.losses.{loss}: 0" for loss in reading),
            )
        if stream.kind in IMAGE_KINDS and stream.transform.augment_operations:
            self._augmented(name, stream, f"{key}.transform", vision.image)

    def _one_width(self, facts: ModelFacts) -> str:
        """The settings that make text and vision encoder equally wide."""
        model = self._recipe.model
        text, vision = facts.text.width, facts.vision.width
        ways = [
            f"model.{kind}.width: {wanted}"
            for kind, encoder, own, wanted in (
                ("text", model.text, text, vision),
                ("vision", model.vision, vision, text),
            )
            # Swin's `width` is that of its first stage, and published weights have a width of their own.
            if getattr(encoder, "width", 0) in (None, own) and getattr(encoder, "pretrained", None) is None
        ]
        return " or ".join(ways) or "encoders of equal width"

    def _augmented(self, name: str, stream: StreamConfig, key: str, image: ImageSpec) -> None:
        """Colour operations have colours to work on, and where they are left out something remains."""
        others = self._recipe.data.streams.values()
        boxed = stream.kind == "region-text" or any(other.images_from == name for other in others)
        if not stream.transform.augment_colour:
            if boxed and stream.images_from is None:
                self._fault(
                    f"{key}.augment_colour",
                    "images with boxes take colour operations alone, so without them nothing is left; set "
                    f"{key}.augment_operations: 0",
                )
            return
        if image.channels != 3 or image.value_range is not None:
            needed, wanted = "3 channels", f"{image.channels}"
            if image.value_range is not None:
                low, high = image.value_range
                needed, wanted = f"{needed} of 8 bits", f"{wanted} of numbers from {low:g} to {high:g}"
            other = (
                "" if boxed else f", or {key}.augment_colour: false, which leaves operations of shape alone"
            )
            self._fault(
                f"{key}.augment_operations",
                f"they need images with {needed}, but model.vision wants {wanted}; set 0{other}",
            )

    def _headed(self, stream: StreamConfig, key: str) -> None:
        built = self._recipe.model.heads.built
        for loss in losses_on(stream):
            absent = [head for head in HEADS_OF[loss] if head not in built]
            if absent:
                self._fault(
                    f"{key}.losses.{loss}",
                    f"it needs the head {' and '.join(absent)}, which model.heads.built leaves out; "
                    "build it, or set this loss to 0",
                )

    def _compared(self, stream: StreamConfig, key: str) -> None:
        """What objectives look at is there: the common space, and other rows for those over pairs."""
        for name in objectives_on(stream):
            if "itc" not in self._recipe.model.heads.built:
                self._fault(
                    f"{key}.objectives.{name}",
                    "it needs the head itc, whose common space it compares in and which model.heads.built leaves out; "
                    "build it, or set this objective's weight to 0",
                )
            if stream.batch_size < 2 and stream.objectives[name].over == "pairs":
                self._fault(
                    f"{key}.batch_size",
                    f"the objective {name} compares a row with the others of its batch, so it must be 2 or more, "
                    "found 1",
                )

    def _framed(self, name: str, stream: StreamConfig, key: str) -> None:
        positions = self._recipe.model.heads.frames
        if positions is None:
            self._fault(
                "model.heads.frames",
                f'missing: stream "{name}" shows videos, and this model has no positions for their frames\n'
                f"  set model.heads.frames: {stream.frames}, or lay overlays/video over the recipe",
            )
        elif stream.frames > positions:
            self._fault(
                f"{key}.frames",
                f"the model has positions for {positions} frames (model.heads.frames), found {stream.frames}",
            )

    def _images(self, name: str, stream: StreamConfig, key: str) -> None:
        streams = self._recipe.data.streams
        givers = [other for other, config in streams.items() if config.kind == "image-text"]
        if stream.images_from not in givers:
            known = ", ".join(givers) or "none"
            self._fault(
                key,
                f'no image-text stream is called "{stream.images_from}"'
                f"{nearest(str(stream.images_from), givers)}\n  image-text streams: {known}",
            )
        elif streams[str(stream.images_from)].source != stream.source:
            self._fault(
                key,
                f'stream "{stream.images_from}" has another source, so its images have not the regions of '
                f"{name!r}; give both the same source, or set images_from: null, so that this stream reads its own",
            )

    def _source(self, key: str, source: SourceConfig) -> None:
        before = len(self.faults)
        self._ask(key, source, source.check)
        if len(self.faults) > before:
            self._unusable.add(key)

    def _languages(self, key: str, source: SourceConfig) -> tuple[str, ...] | None:
        return None if key in self._unusable else self._ask(key, source, source.languages)

    def _spoken(self, key: str, wanted: Iterable[str] | None, spoken: Iterable[str] | None) -> None:
        known = list(spoken) if spoken is not None else []
        unknown = [code for code in wanted or () if code not in known]
        if unknown and spoken is not None:
            self._fault(key, f"its source has no {', '.join(unknown)}\n  known: {', '.join(known)}")

    def _ask(self, key: str, component: ComponentConfig, question: Callable[[], T]) -> T | None:
        try:
            return question()
        except WidthError as error:
            self._misfit(key, component, error)
        except SettingError as error:
            if isinstance(error, MissingFileError) and not self._data:
                return None
            known = error.setting.split(".")[0] in type(component).model_fields
            self._fault(f"{key}.init_args.{error.setting}" if known else key, error.message)
        except (DataError, PluginError) as error:
            self._fault(key, str(error))
        except Exception as error:  # noqa: BLE001 (a stranger's code; whatever it raises is his fault, not a crash of ours)
            self._fault(key, f"{component.component_name()} failed: {type(error).__name__}: {error}")
        return None

    def _misfit(self, key: str, component: ComponentConfig, error: WidthError) -> None:
        """Blame the encoder that brought the width, and name the settings of both sides."""
        other: ComponentConfig = getattr(self._recipe.model, error.encoder)
        published = getattr(other, "pretrained", None)
        setting = "width" if published is None else "pretrained"
        known = setting in type(other).model_fields
        self._fault(
            f"model.{error.encoder}.init_args.{setting}" if known else f"model.{error.encoder}",
            f"{other.component_name()} brings a width that {component.component_name()} cannot take: {error.message}\n"
            f"  set {f'model.{error.encoder}.{setting}' if known else f'another model.{error.encoder}'}, or "
            f"{key}.{error.setting} ({self._place(f'{key}.init_args.{error.setting}') or 'default'})",
        )

    def _fault(self, key: str, message: str) -> None:
        self.faults.append(Fault(key, self._place(key), message))
