"""Marks of settings that may change when a run goes on. Imports no torch.

    log_every: Annotated[int, HARMLESS] = Field(20, gt=0, description="...")

What is not marked makes another run of it. A mark holds for everything below the setting that has it.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError, ValidationInfo
from pydantic_core import (
    CoreSchema,
    ErrorDetails,
    InitErrorDetails,
    PydanticCustomError,
    core_schema,
)

from x2kit.errors import X2KitError

if TYPE_CHECKING:
    from x2kit.plugin.components import ComponentConfig
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


def choice_schema(base: type[ComponentConfig]) -> CoreSchema:
    """Pydantic's schema of a field typed as the base class of a kind, for example VisionEncoderConfig."""

    def choose(value: Any, info: ValidationInfo) -> Any:
        return value if isinstance(value, base) else _chosen(base, value, info.context)

    return core_schema.with_info_plain_validator_function(
        choose,
        ref=f"{base.__module__}.{base.__qualname__}:choice",
        json_schema_input_schema=core_schema.any_schema(),
        serialization=core_schema.plain_serializer_function_ser_schema(
            dump_component, return_schema=core_schema.dict_schema()
        ),
    )


def _chosen(base: type[ComponentConfig], value: Any, context: Any) -> ComponentConfig:
    name, settings = split_choice(value)
    component = _component(base, name, (context or {}).get("registry"))
    try:
        chosen: ComponentConfig = component.model_validate(settings, context=context)
    except ValidationError as error:
        raise ValidationError.from_exception_data(
            name, [_in_init_args(fault) for fault in error.errors()]
        ) from error
    return chosen


def _in_init_args(fault: ErrorDetails) -> InitErrorDetails:
    loc, found = ("init_args", *fault["loc"]), fault["input"]
    if fault["type"] in get_args(core_schema.ErrorType):
        return InitErrorDetails(type=fault["type"], loc=loc, input=found, ctx=fault.get("ctx", {}))
    custom = PydanticCustomError(fault["type"], "{reason}", {"reason": fault["msg"]})
    return InitErrorDetails(type=custom, loc=loc, input=found)


def _component(base: type[ComponentConfig], name: str, registry: Registry | None) -> type[ComponentConfig]:
    if registry is None:
        return _imported(base, name)
    try:
        return registry.get(base.kind, name)
    except X2KitError as error:
        raise PydanticCustomError("unknown_component", "{reason}", {"reason": str(error)}) from error


def _imported(base: type[ComponentConfig], path: str) -> type[ComponentConfig]:
    """The class at an import path, which is how jsonargparse names classes."""
    if "." not in path:
        raise ValueError("component names need a registry; see x2kit.plugin.choice.context_of")
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"cannot import {path}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(f"{path} is no {base.kind} component")
    return found
