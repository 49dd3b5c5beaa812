"""Marks of settings that may change when a run goes on. Imports no torch.

    log_every: Annotated[int, HARMLESS] = Field(20, gt=0, description="...")

What is not marked makes another run of it. A mark holds for everything below the setting that has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, PlainSerializer, ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from x2kit.errors import X2KitError
from x2kit.plugin.components import (
    ComponentConfig,
    FusionEncoderConfig,
    Kind,
    ObjectiveConfig,
    ReporterConfig,
    SourceConfig,
    TaskConfig,
    TextEncoderConfig,
    VisionEncoderConfig,
)
from x2kit.plugin.registry import Registry


@dataclass(frozen=True)
class OnResume:
    """What a change means for the run that goes on: nothing, or that its numbers differ from there."""

    numbers_change: bool


HARMLESS = OnResume(numbers_change=False)
"""The run ends with the very weights that it would have had."""
FROM_HERE = OnResume(numbers_change=True)
"""The steps that are left are made with the new value."""


_OWN_NAME = re.compile(r"[A-Za-z0-9_-]+")

C = TypeVar("C", bound=ComponentConfig)


def require_own_names(what: str, names: Iterable[str]) -> None:
    """Raise ValueError for a name that cannot be a folder, a part of a log name, and a key of the command line."""
    for name in names:
        if not _OWN_NAME.fullmatch(name):
            raise ValueError(f"{what} has letters, digits, - and _ alone, found {name!r}")


def context_of(registry: Registry) -> dict[str, Any]:
    """The validation context that lets pydantic resolve component names."""
    return {"registry": registry}


def dump_component(component: ComponentConfig) -> dict[str, Any]:
    """What a recipe writes for this component; reading it back gives an equal one."""
    return {"class_path": component.component_name(), "init_args": component.model_dump(mode="json")}


def split_choice(value: Any) -> tuple[str, dict[str, Any]]:
    """Name and settings of a choice as a recipe writes it. Raises ValueError with what is allowed."""
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, Mapping) or not isinstance(value.get("class_path"), str):
        raise ValueError("expected a component: its name, or class_path with init_args")
    surplus = sorted(set(value) - {"class_path", "init_args"})
    if surplus:
        raise ValueError(f"beside class_path only init_args may stand, found {', '.join(surplus)}")
    settings = value.get("init_args") or {}
    if not isinstance(settings, Mapping):
        raise ValueError(f"init_args holds settings by name, found {type(settings).__name__}")
    return value["class_path"], dict(settings)


def _chooser(kind: Kind) -> BeforeValidator:
    def choose(value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, ComponentConfig):
            return value
        name, settings = split_choice(value)
        if not info.context or "registry" not in info.context:
            raise ValueError("component names need a registry; see x2kit.plugin.choice.context_of")
        try:
            component = info.context["registry"].get(kind, name)
        except X2KitError as error:
            raise PydanticCustomError("unknown_component", "{reason}", {"reason": str(error)}) from error
        try:
            return component.model_validate(settings, context=info.context)
        except ValidationError as error:
            raise ValidationError.from_exception_data(
                name,
                [
                    InitErrorDetails(
                        type=PydanticCustomError(
                            fault["type"], "{reason}", {"reason": fault["msg"], "component": name}
                        ),
                        loc=("init_args", *fault["loc"]),
                        input=fault["input"],
                    )
                    for fault in error.errors()
                ],
            ) from error

    return BeforeValidator(choose)


_DUMP = PlainSerializer(dump_component, return_type=dict)

VisionChoice = Annotated[VisionEncoderConfig, _chooser("vision"), _DUMP]
TextChoice = Annotated[TextEncoderConfig, _chooser("text"), _DUMP]
FusionChoice = Annotated[FusionEncoderConfig, _chooser("fusion"), _DUMP]
SourceChoice = Annotated[SourceConfig, _chooser("source"), _DUMP]
TaskChoice = Annotated[TaskConfig, _chooser("task"), _DUMP]
ObjectiveChoice = Annotated[ObjectiveConfig, _chooser("objective"), _DUMP]
ReporterChoice = Annotated[ReporterConfig, _chooser("reporter"), _DUMP]
