"""Types of recipe fields: components by name, names or paths, and settings that may change on resume. No torch import.

    log_every: Annotated[int, HARMLESS] = Field(20, gt=0, description="...")

A setting without a mark must not change when a run is resumed. A mark also applies to everything below its setting.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import BeforeValidator, ValidationError, ValidationInfo
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
class PathOrName:
    """Marker of a string setting that may be a path, relative to the recipe file that contains it."""


NameOrPath = Annotated[str, PathOrName()]
"""A published name or a local path, for settings like `pretrained`. It is a path if it starts with `./`,
`../`, `/` or `~`, or if it exists relative to the recipe file."""


@dataclass(frozen=True)
class PathOrUrl:
    """Marker of a string setting that is a URL or a path, relative to the recipe file that contains it."""


Location = Annotated[
    str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value), PathOrUrl()
]
"""A local path or a URL (`s3://bucket/part-*.jsonl`, `hf://`, `https://`), for settings of data sources."""


@dataclass(frozen=True)
class OnResume:
    """Effect of a change on a resumed run: none, or different numbers from there on."""

    numbers_change: bool


HARMLESS = OnResume(numbers_change=False)
"""The final weights do not change."""
FROM_HERE = OnResume(numbers_change=True)
"""The remaining steps use the new value."""


_OWN_NAME = re.compile(r"[A-Za-z0-9_-]+")


def require_own_names(what: str, names: Iterable[str]) -> None:
    """Raise ValueError for names that are invalid as folder, log name or command-line key."""
    for name in names:
        if not _OWN_NAME.fullmatch(name):
            raise ValueError(f"{what}: expected letters, digits, - and _, found {name!r}")


def context_of(registry: Registry) -> dict[str, Any]:
    """Return the pydantic context that resolves component names."""
    return {"registry": registry}


def dump_component(component: ComponentConfig) -> dict[str, Any]:
    """Convert a component to its form in a recipe, class_path and init_args."""
    return {"class_path": component.component_name(), "init_args": component.model_dump(mode="json")}


def split_choice(value: Any) -> tuple[str, dict[str, Any]]:
    """Split a component of a recipe into name and settings. Raises ValueError for another form."""
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, Mapping) or not isinstance(value.get("class_path"), str):
        raise ValueError("expected a component: its name, or class_path with init_args")
    surplus = sorted(str(name) for name in set(value) - {"class_path", "init_args"})
    if surplus:
        raise ValueError(f"a component has two keys, class_path and init_args; found {', '.join(surplus)}")
    settings = value.get("init_args") or {}
    if not isinstance(settings, Mapping):
        raise ValueError(f"init_args: expected a mapping, found {type(settings).__name__}")
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
