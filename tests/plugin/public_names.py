"""List the names that x2kit promises, with their signatures: `python -m tests.plugin.public_names` writes the list.

The list is tests/plugin/public_names.txt. A line that disappears breaks a promise of docs/reference/versions.md.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from x2kit.plugin import hookspecs
from x2kit.plugin.loading.admission import hook_names

FILE = Path(__file__).with_name("public_names.txt")
MODULES = (
    "x2kit",
    "x2kit.errors",
    "x2kit.inference",
    "x2kit.plugin",
    "x2kit.plugin.toolkit",
    "x2kit.testing",
)
PLAIN = (str, int, float, bool, tuple, type(None), Path)


def current() -> list[str]:
    """List a line for each promised name, sorted by module."""
    lines = [f"API {hookspecs.API_VERSION}"]
    lines += [f"hook {name}{signature(getattr(hookspecs, name))}" for name in sorted(hook_names())]
    for module_name in MODULES:
        module = import_module(module_name)
        for name in promised(module):
            lines += describe(f"{module_name}.{name}", getattr(module, name))
    return lines


def promised(module: ModuleType) -> list[str]:
    """List the names of a module's `__all__`, or the classes that it defines."""
    defined = [
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    ]
    return sorted(getattr(module, "__all__", defined))


def describe(name: str, value: Any) -> Iterator[str]:
    """Yield the lines of a name: its kind, and its fields and methods if it is a class."""
    if not inspect.isclass(value):
        yield f"{name}{signature(value)}" if inspect.isroutine(value) else f"{name}: {type(value).__name__}"
        return
    yield f"class {name}{signature(value) if '__init__' in vars(value) and not is_dataclass(value) else ''}"
    if issubclass(value, Enum):
        yield from (f"  {name}.{member}" for member in sorted(value.__members__))
        return
    for attribute in sorted(fields(value)):
        yield f"  {name}.{attribute}"
    for attribute, method in sorted(methods(value).items()):
        yield f"  {name}.{attribute}{signature(method)}"


def fields(value: type) -> set[str]:
    """Name the public fields, class variables and properties that x2kit defines in a class."""
    own: set[str] = set()
    for base in own_classes(value):
        own |= {name for name in inspect.get_annotations(base) if not name.startswith("_")}
        own |= {name for name, found in vars(base).items() if isinstance(found, property) and name[0] != "_"}
    return own


def methods(value: type) -> dict[str, Any]:
    """Return the public methods that x2kit defines in a class."""
    found: dict[str, Any] = {}
    for base in reversed(own_classes(value)):
        for name, method in vars(base).items():
            method = getattr(method, "__func__", method)  # class and static methods
            if inspect.isfunction(method) and not name.startswith("_"):
                found[name] = method
    return found


def own_classes(value: type) -> list[type]:
    """List the class and its bases that x2kit defines."""
    return [base for base in value.__mro__ if base.__module__.partition(".")[0] == "x2kit"]


def signature(value: Any) -> str:
    """Format names, kinds and plain defaults of arguments; types are checked by mypy."""
    found = inspect.signature(value)
    shown = [_without_type(parameter) for parameter in found.parameters.values()]
    return str(found.replace(parameters=shown, return_annotation=inspect.Signature.empty))


def _without_type(parameter: inspect.Parameter) -> inspect.Parameter:
    default = parameter.default
    if default is not inspect.Parameter.empty and not isinstance(default, PLAIN):
        default = ...  # its text is not equal in every process or release of a library
    return parameter.replace(annotation=inspect.Parameter.empty, default=default)


if __name__ == "__main__":
    FILE.write_text("\n".join(current()) + "\n", encoding="utf-8")
    sys.exit(0)
