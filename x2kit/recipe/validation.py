"""Check the parts of a recipe against each other: collect all faults that make a run impossible. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from x2kit.data.config import LossName, StreamConfig
from x2kit.data.features.rules import feature_faults
from x2kit.errors import (
    DataError,
    Fault,
    MissingFileError,
    PluginError,
    RecipeError,
    SettingError,
    WeightsError,
    WidthError,
)
from x2kit.evaluation.config import EvaluationConfig
from x2kit.hub.availability import availability
from x2kit.hub.names import parse_name
from x2kit.model.config import HeadName, ModelConfig
from x2kit.plugin.components import ComponentConfig, SourceConfig, TaskConfig
from x2kit.plugin.facts import FusionFacts, ImageSpec, TextFacts, VisionFacts
from x2kit.plugin.tasks import PretrainingConfig
from x2kit.recipe.faults import nearest
from x2kit.recipe.schema import Recipe

T = TypeVar("T")
Checks = Literal["all", "without data", "evaluation", "none"]
PAIRWISE: tuple[LossName, ...] = ("itc", "itm", "ttc", "ttm")
HEADS_OF: dict[LossName, tuple[HeadName, ...]] = {
    "itc": ("itc",),
    "ttc": ("itc",),
    "itm": ("itm", "itc"),  # hard negatives are drawn by similarity
    "ttm": ("itm", "itc"),
    "mlm": ("mlm",),
    "tlm": ("mlm",),
    "bbox": ("bbox",),
    "giou": ("bbox",),
}
TEXT_AS_CONTEXT: tuple[LossName, ...] = ("ttm", "tlm")


@dataclass(frozen=True)
class ModelFacts:
    """Facts of the three encoders, known before they are built."""

    vision: VisionFacts
    text: TextFacts
    fusion: FusionFacts


def validate(
    recipe: Recipe, checks: Checks = "all", place: Callable[[str], str] = lambda key: ""
) -> ModelFacts | None:
    """Check the parts of a recipe against each other.

    Args:
        recipe: components resolved.
        checks: "all"; "without data": all, but data files may be missing; "evaluation": only the evaluation, which must
            be present; "none".
        place: returns the place of a key.
    Returns: the facts of the model, if it was checked.
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
        check.missing_evaluation()
    if checks != "none" and recipe.evaluation is not None:
        check.evaluation(recipe.evaluation)
        if whole:
            check.validation(recipe.evaluation)
            check.held_out()
    if check.faults:
        raise RecipeError(check.faults)
    return facts


def losses_on(stream: StreamConfig) -> list[LossName]:
    """List the losses of a stream that are active at some step."""
    if stream.weight == 0:
        return []
    settings = {name: stream.loss(name) for name in stream.task.losses}
    return [name for name, loss in settings.items() if loss.weight > 0 and loss.start < loss.stop]


def objectives_on(stream: StreamConfig) -> list[str]:
    """List the objectives of a stream that are active at some step."""
    if stream.weight == 0:
        return []
    objectives = stream.objectives.items()
    return [
        name for name, objective in objectives if objective.weight > 0 and objective.start < objective.stop
    ]


def _setting(key: str, component: ComponentConfig, value: str) -> str:
    """Return the key of the setting of a component that has a value, or the component's own."""
    found = (name for name in type(component).model_fields if getattr(component, name) == value)
    return next((f"{key}.init_args.{name}" for name in found), key)


class _Checks:
    def __init__(self, recipe: Recipe, place: Callable[[str], str], data: bool) -> None:
        self.faults: list[Fault] = []
        self._data = data
        self._recipe, self._place = recipe, place
        self._invalid_sources: set[str] = set()
        self._measured: dict[str, tuple[SourceConfig, str]] = {}

    def model(self) -> ModelFacts | None:
        """Check each encoder, and their widths against each other."""
        model = self._recipe.model
        vision = self._call("model.vision", model.vision, model.vision.describe)
        text = self._call("model.text", model.text, model.text.describe)
        if vision is None or text is None:
            return None
        if fault := vision.image.fault():
            self._fault("model.vision", f"{model.vision.component_name()} declares invalid images: {fault}")
        fusion = self._call(
            "model.fusion", model.fusion, lambda: model.fusion.describe(text.width, vision.width)
        )
        self._check_init_from(model)
        if model.heads.context_positions and vision.width % 4:
            self._fault(
                "model.heads.context_positions",
                f"needs a vision width divisible by 4, found {vision.width}; set 0 or change model.vision",
            )
        return None if fusion is None else ModelFacts(vision, text, fusion)

    def _check_init_from(self, model: ModelConfig) -> None:
        if model.init_from is None:
            if model.init_except:
                self._fault("model.init_except", "has no effect without model.init_from")
            return
        try:
            reason = availability(parse_name(model.init_from)).obstacle
        except WeightsError as error:
            reason = str(error)
        if reason is not None:
            self._fault("model.init_from", reason)

    def stream(self, name: str, facts: ModelFacts | None) -> None:
        """Check a stream's source, languages, batch and losses against the model."""
        stream, key = self._recipe.data.streams[name], f"data.streams.{name}"
        self._check_source(f"{key}.source", stream.source)
        available = self._languages_of(f"{key}.source", stream.source)
        self._check_languages(f"{key}.languages", stream.languages, available)
        if isinstance(stream.task, PretrainingConfig):
            needed = stream.task.required_languages
            for code in needed:
                at = _setting(f"{key}.task", stream.task, code)
                self._check_languages(at, (code,), stream.languages or available)
        pool = stream.languages or available
        if stream.layout == "parallel" and pool is not None and len(set(pool)) < 2:
            self._fault(
                f"{key}.languages", f"parallel text needs two or more languages, found {', '.join(pool)}"
            )
        if stream.image_stream is not None:
            at = _setting(f"{key}.task", stream.task, stream.image_stream)
            self._check_image_stream(name, stream, at, stream.image_stream)
        pairwise = [loss for loss in losses_on(stream) if stream.layout is not None and loss in PAIRWISE]
        if stream.batch_size < 2 and pairwise:
            self._fault(
                f"{key}.batch_size",
                f"should be 2 or more, found 1: {', '.join(pairwise)} compare a row with others of its batch",
            )
        self._check_heads(stream, key)
        self._check_objectives(stream, key)
        if stream.has_videos:
            self._check_frames(name, stream, key)
        if facts is not None:
            self._check_limits(name, stream, key, facts)

    def training(self) -> None:
        """Check that steps, streams and losses are consistent, and check the optimiser and the reporters."""
        streams = self._recipe.data.streams
        optimizer = self._recipe.training.optimizer
        self._call("training.optimizer", optimizer, optimizer.check)
        for name, reporter in self._recipe.training.reporters.items():
            self._call(f"training.reporters.{name}", reporter, reporter.check)
        trainable = self._recipe.training.trainable
        for key, message in trainable.faults(self._recipe.model.heads):
            self._fault(key, message)
        for key, message in feature_faults(self._recipe.data, frozen=not trainable.vision.trained):
            self._fault(key, message)
        if streams and "steps" not in self._recipe.training.model_fields_set:
            self._fault("training.steps", "missing: number of optimiser steps")
        if not streams and self._recipe.training.steps:
            self._fault(
                "data.streams",
                f"no stream for {self._recipe.training.steps} training steps; add one, or set training.steps: 0 to "
                "save the initial weights",
            )
        if streams and not any(losses_on(stream) or objectives_on(stream) for stream in streams.values()):
            self._fault("data.streams", "no loss is active; set the weight of one above 0")

    def missing_evaluation(self) -> None:
        """Report a recipe without `evaluation`."""
        self._fault(
            "evaluation",
            "missing: evaluation tasks and their data\n  merge a file that has them, --config FILE, or set "
            "--evaluation.source and --evaluation.tasks.NAME",
        )

    def evaluation(self, evaluation: EvaluationConfig) -> None:
        """Check the sources of the evaluation for its split."""
        for name, task in evaluation.tasks.items():
            self._check_task_heads(f"evaluation.tasks.{name}", task)
        for name, source in evaluation.keyed_sources().items():
            self._check_measured(
                f"evaluation.{name}", source, evaluation.split, "split", evaluation.languages
            )

    def validation(self, evaluation: EvaluationConfig) -> None:
        """Check the keys of validation during training, and its sources."""
        for key, message in evaluation.selection_faults():
            self._fault(f"evaluation.{key}", message)
        if evaluation.every is None:
            return
        if evaluation.select_source is not None:
            self._check_source("evaluation.select_source", evaluation.select_source)
            self._measured["evaluation.select_source"] = evaluation.select_source, evaluation.select_on
            return
        split, languages = evaluation.validation_split, evaluation.languages
        for name, source in evaluation.keyed_sources().items() if split != evaluation.split else ():
            self._check_measured(f"evaluation.{name}", source, split, "select_on", languages)

    def _check_measured(
        self, key: str, source: SourceConfig, split: str, setting: str, languages: Iterable[str] | None
    ) -> None:
        try:
            measured = source.for_split(split)
        except (SettingError, DataError, ValueError) as error:
            self._fault(f"evaluation.{setting}", getattr(error, "message", str(error)))
            return
        self._check_source(key, measured)
        self._check_languages("evaluation.languages", languages, self._languages_of(key, measured))
        if key not in self._invalid_sources:
            self._measured[key if setting == "split" else f"evaluation.{setting}"] = measured, split

    def held_out(self) -> None:
        """Check that no source of evaluation or validation is also a training source."""
        for key, (measured, split) in self._measured.items():
            for name, stream in self._recipe.data.streams.items():
                if stream.source == measured:
                    self._fault(
                        key,
                        f'split "{split}" is what stream "{name}" is trained on; evaluate on other records',
                    )

    def _check_limits(self, name: str, stream: StreamConfig, key: str, facts: ModelFacts) -> None:
        vision, text = facts.vision, facts.text
        if stream.max_tokens > text.max_length:
            self._fault(
                f"{key}.max_tokens",
                f"the text encoder takes at most {text.max_length} tokens, found {stream.max_tokens}",
            )
        reading = [loss for loss in losses_on(stream) if stream.layout and loss in TEXT_AS_CONTEXT]
        if reading and text.width != vision.width:
            self._fault(
                "model.text",
                f"has width {text.width}, but model.vision has {vision.width}, and in {key} {' and '.join(reading)} "
                "use texts as the fusion encoder's context in place of images, which needs equal widths\n"
                f"  set {self._equal_widths(facts)}, or "
                + " and ".join(f"{key}.losses.{loss}: 0" for loss in reading),
            )
        if stream.has_images and stream.transform.augment_operations:
            self._check_augmentation(name, stream, f"{key}.transform", vision.image)

    def _equal_widths(self, facts: ModelFacts) -> str:
        """Format the settings that give text and vision encoder equal widths."""
        model = self._recipe.model
        text, vision = facts.text.width, facts.vision.width
        ways = [
            f"model.{kind}.width: {wanted}"
            for kind, encoder, own, wanted in (
                ("text", model.text, text, vision),
                ("vision", model.vision, vision, text),
            )
            # Swin's `width` is that of its first stage; published weights fix the width.
            if getattr(encoder, "width", 0) in (None, own) and getattr(encoder, "pretrained", None) is None
        ]
        return " or ".join(ways) or "encoders of equal width"

    def _check_augmentation(self, name: str, stream: StreamConfig, key: str, image: ImageSpec) -> None:
        """Check that the images support the augmentations, and that some remain active."""
        others = self._recipe.data.streams.values()
        boxed = stream.layout == "boxes" or any(other.image_stream == name for other in others)
        if not stream.transform.augment_colour:
            if boxed and stream.image_stream is None:
                self._fault(
                    f"{key}.augment_colour",
                    f"images with boxes get colour operations only, so none remain; set {key}.augment_operations: 0",
                )
            return
        if image.channels != 3 or image.value_range is not None:
            needed, wanted = "3 channels", f"{image.channels}"
            if image.value_range is not None:
                low, high = image.value_range
                needed, wanted = f"{needed} of 8 bits", f"{wanted} of numbers from {low:g} to {high:g}"
            other = "" if boxed else f", or {key}.augment_colour: false to keep geometric operations"
            self._fault(
                f"{key}.augment_operations",
                f"needs images with {needed}, but model.vision takes {wanted}; set 0{other}",
            )

    def _check_heads(self, stream: StreamConfig, key: str) -> None:
        if stream.layout is None:
            self._check_task_heads(f"{key}.task", stream.task)
            return
        built = self._recipe.model.heads.built
        for loss in losses_on(stream):
            absent = [head for head in HEADS_OF[loss] if head not in built]
            if absent:
                self._fault(
                    f"{key}.losses.{loss}",
                    f"needs head {' and '.join(absent)}, not in model.heads.built; add it, or set this loss to 0",
                )

    def _check_task_heads(self, key: str, task: TaskConfig) -> None:
        missing = self._call(key, task, lambda: task.missing_heads(self._recipe.model.heads)) or {}
        for setting, message in missing.items():
            self._fault(f"model.heads.{setting}", f"{message}; {key} {task.component_name()} needs it")
        together = max((len(image) for _, image in task.pairs if isinstance(image, tuple)), default=1)
        fusion = self._recipe.model.fusion
        if together > fusion.images:
            self._fault(
                "model.fusion",
                f"{fusion.component_name()} fuses a text with {fusion.images} image at once, {key} "
                f"{task.component_name()} with {together}; choose another encoder, or let the task fuse the images "
                "separately",
            )

    def _check_objectives(self, stream: StreamConfig, key: str) -> None:
        """Check that objectives have the head itc, and those over pairs two rows or more."""
        for name in objectives_on(stream):
            if "itc" not in self._recipe.model.heads.built:
                self._fault(
                    f"{key}.objectives.{name}",
                    "needs head itc, not in model.heads.built; add it, or set this objective's weight to 0",
                )
            if stream.batch_size < 2 and stream.objectives[name].over == "pairs":
                self._fault(
                    f"{key}.batch_size",
                    f"should be 2 or more, found 1: objective {name} compares a row with others of its batch",
                )

    def _check_frames(self, name: str, stream: StreamConfig, key: str) -> None:
        positions = self._recipe.model.heads.frames
        if positions is None:
            self._fault(
                "model.heads.frames",
                f'missing: number of frame positions; stream "{name}" has videos\n'
                f"  set model.heads.frames: {stream.frames}, or merge overlays/video over the recipe",
            )
        elif stream.frames > positions:
            self._fault(
                f"{key}.frames",
                f"the model has positions for {positions} frames (model.heads.frames), found {stream.frames}",
            )

    def _check_image_stream(self, name: str, stream: StreamConfig, key: str, wanted: str) -> None:
        """Check that the stream whose images another one uses exists, draws images, and has the same source."""
        streams = self._recipe.data.streams
        of_images = [other for other, one in streams.items() if one.layout == "images" and not one.has_videos]
        if wanted not in of_images:
            self._fault(
                key,
                f'no stream of images and texts is called "{wanted}"{nearest(wanted, of_images)}\n  such streams: '
                f"{', '.join(of_images) or 'none'}",
            )
        elif streams[wanted].source != stream.source:
            self._fault(
                key,
                f'stream "{wanted}" has another source than "{name}", so its images do not have these '
                "regions; use one source for both, or set images_from: null to read own images",
            )

    def _check_source(self, key: str, source: SourceConfig) -> None:
        before = len(self.faults)
        self._call(key, source, source.check)
        if len(self.faults) > before:
            self._invalid_sources.add(key)

    def _languages_of(self, key: str, source: SourceConfig) -> tuple[str, ...] | None:
        return None if key in self._invalid_sources else self._call(key, source, source.languages)

    def _check_languages(
        self, key: str, wanted: Iterable[str] | None, available: Iterable[str] | None
    ) -> None:
        known = list(available) if available is not None else []
        unknown = [code for code in wanted or () if code not in known]
        if unknown and available is not None:
            self._fault(key, f"the source has no {', '.join(unknown)}\n  known: {', '.join(known)}")

    def _call(self, key: str, component: ComponentConfig, method: Callable[[], T]) -> T | None:
        try:
            return method()
        except WidthError as error:
            self._width_fault(key, component, error)
        except SettingError as error:
            if isinstance(error, MissingFileError) and not self._data:
                return None
            known = error.setting.split(".")[0] in type(component).model_fields
            self._fault(f"{key}.init_args.{error.setting}" if known else key, error.message)
        except (DataError, PluginError) as error:
            self._fault(key, str(error))
        except Exception as error:  # noqa: BLE001 (plugin code may raise anything)
            self._fault(key, f"{component.component_name()} failed: {type(error).__name__}: {error}")
        return None

    def _width_fault(self, key: str, component: ComponentConfig, error: WidthError) -> None:
        """Report a width mismatch at the encoder that sets the width, with both settings."""
        other: ComponentConfig = getattr(self._recipe.model, error.encoder)
        published = getattr(other, "pretrained", None)
        setting = "width" if published is None else "pretrained"
        known = setting in type(other).model_fields
        self._fault(
            f"model.{error.encoder}.init_args.{setting}" if known else f"model.{error.encoder}",
            f"{other.component_name()} has a width unsupported by {component.component_name()}: {error.message}\n"
            f"  set {f'model.{error.encoder}.{setting}' if known else f'another model.{error.encoder}'}, or "
            f"{key}.{error.setting} ({self._place(f'{key}.init_args.{error.setting}') or 'default'})",
        )

    def _fault(self, key: str, message: str) -> None:
        self.faults.append(Fault(key, self._place(key), message))
