"""Checks of the settings of all components."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import yaml

from x2kit.plugin.choice import context_of, dump_component, split_choice
from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.registry import Registry
from x2kit.testing.claims import claim
from x2kit.testing.subjects import Subject

HEAVY = ("torch", "transformers", "timm", "open_clip", "torchvision", "tensorflow", "jax")

_IMPORT_ALONE = """
import importlib.util, json, pathlib, sys
file, name, heavy, path = json.loads(sys.argv[1])
sys.path[:] = path
if file is not None:  # a file that a recipe names is on no import path
    top = name.partition(".")[0]
    folder = [str(pathlib.Path(file).parent)] if pathlib.Path(file).name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(top, file, submodule_search_locations=folder)
    sys.modules[top] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[top])
__import__(name)
print(",".join(sorted(set(heavy) & set(sys.modules))))
"""


def it_can_be_registered(subject: Subject) -> None:
    """The class is a valid component, and its name can be used in recipes."""
    registry = Registry("conformance", "conformance")
    registry.add(type(subject.component))
    name = subject.component.component_name()
    claim(name.isidentifier(), f'"{name}" is not a valid name in a recipe; use letters, digits and _')


def settings_survive_a_recipe(subject: Subject) -> None:
    """Settings written to YAML and read back are equal."""
    component = subject.component
    written = yaml.safe_load(yaml.safe_dump(dump_component(component)))
    _, settings = split_choice(written)
    registry = Registry("conformance", "conformance")
    for inner in {type(inner) for inner in _inside(component)}:
        registry.add(inner)
    again = type(component).model_validate(settings, context=context_of(registry))
    claim(again == component, f"written to YAML and read back it is {again!r}, it was {component!r}")


def _inside(component: ComponentConfig) -> Iterator[ComponentConfig]:
    """Iterate over components nested in the settings."""
    for name in type(component).model_fields:
        value = getattr(component, name)
        for inner in value.values() if isinstance(value, dict) else [value]:
            if isinstance(inner, ComponentConfig):
                yield inner
                yield from _inside(inner)


def settings_are_strict_and_frozen(subject: Subject) -> None:
    """Unknown settings are rejected, and settings are immutable."""
    config = type(subject.component).model_config
    claim(config.get("extra") == "forbid", "it accepts unknown settings; keep extra='forbid'")
    claim(bool(config.get("frozen")), "its settings are mutable; keep frozen=True")


def every_setting_is_described(subject: Subject) -> None:
    """The class has a docstring and each field a description, which are shown to users."""
    component = type(subject.component)
    claim(bool((component.__dict__.get("__doc__") or "").strip()), "the class has no docstring")
    silent = [name for name, field in component.model_fields.items() if not field.description]
    claim(not silent, f"no description for: {', '.join(silent)}; write Field(..., description=...)")


def the_module_imports_no_torch(subject: Subject) -> None:
    """The module of the settings is imported at every start, so it must not import torch."""
    name = type(subject.component).__module__
    if name == "__main__":
        return
    done = _import_alone(
        name, getattr(sys.modules[name.partition(".")[0]], "__file__", None), tuple(sys.path)
    )
    claim(done.returncode == 0, f"importing {name} alone fails:\n{done.stderr.strip()}")
    found = done.stdout.strip()
    claim(
        not found,
        f"importing {name} imports {found}; move it into build(), and names that only type hints "
        "use under TYPE_CHECKING",
    )


def _import_alone(name: str, file: str | None, path: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Import a module in a fresh interpreter, which prints the heavy modules that came with it."""
    call = json.dumps([file, name, HEAVY, path])
    return subprocess.run(
        [sys.executable, "-c", _IMPORT_ALONE, call], capture_output=True, text=True, check=False
    )


FOR_INSTALLED = (the_module_imports_no_torch,)
"""Checks required of installed plugins, which are imported at every start; advice for file plugins."""

LAWS = (
    it_can_be_registered,
    settings_survive_a_recipe,
    settings_are_strict_and_frozen,
    every_setting_is_described,
    the_module_imports_no_torch,
)
