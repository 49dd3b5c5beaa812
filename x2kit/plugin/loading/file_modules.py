"""Import plugins from Python files, also in worker processes. Imports no torch.

A finder on `sys.meta_path` maps module names to files, so the folder of a file is not on the import path, and a file
`random.py` in it shadows nothing. Worker processes that are not forked get the same mapping by `WithFilePlugins`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from x2kit.errors import PluginError


def is_path(text: str) -> bool:
    """Whether a plugin is named by a path instead of a module name."""
    return text.endswith(".py") or "/" in text or "\\" in text


def locate(text: str, base: Path) -> Path:
    """Resolve a path: `~/` is the home directory, relative paths start at `base`."""
    return (Path.home() / text[2:] if text.startswith("~/") else base / text).resolve()


def module_name(path: Path) -> str:
    """Return the name of the file in `sys.modules`, the same in every process and on every rank."""
    stem = re.sub(r"\W", "_", path.stem)
    return f"x2kit_file_{stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def import_file(path: Path) -> ModuleType:
    """Import a file as a module, once per process like every import.

    Args:
        path: absolute path of a Python file, or of a folder with an `__init__.py`, which may use relative imports.
    Raises: PluginError if there is no such file; any error of the file's code.
    """
    name = module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    # os.path instead of Path, which raises errors for names that are too long
    file = path / "__init__.py" if os.path.isdir(path) else path  # noqa: PTH112
    if not os.path.isfile(file):  # noqa: PTH113
        raise PluginError(
            f"there is no file {file}; relative paths start at the file or folder that names them"
        )
    if file.suffix != ".py":
        raise PluginError(f"{file} is not a Python file; its name must end in .py")
    _register({name: path})
    try:
        return importlib.import_module(name)
    except BaseException:
        for stale in [known for known in sys.modules if known == name or known.startswith(name + ".")]:
            del sys.modules[stale]
        raise


def imported_files() -> list[Path]:
    """List the paths of the file plugins that this process has imported."""
    return [path for name, path in _FINDER.paths.items() if name in sys.modules]


def file_of(component: type[object]) -> Path | None:
    """Return the file plugin that defines a class; None if it is not from a file plugin."""
    return _FINDER.paths.get(component.__module__.partition(".")[0])


class WithFilePlugins:
    """Base of objects that are pickled for worker processes.

    Forkserver and spawn start workers in a new interpreter, which cannot find the module of a file plugin by name.
    Unpickling first registers the file plugins of the sending process, then restores the attributes, which may refer
    to their classes.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), dict(_FINDER.paths)), self.__dict__


def _restore(cls: type[object], paths: Mapping[str, Path]) -> object:
    _register(paths)
    return cls.__new__(cls)


class _SourceLoader(SourceFileLoader):
    """Compile from source, never from `__pycache__`, so that exactly the source that was read runs."""

    def path_stats(self, path: Any) -> Mapping[str, Any]:
        raise OSError(f"{path}: bytecode is not used")


class _FileFinder(MetaPathFinder):
    """Find file plugins, and modules of folder plugins, by module name.

    Attributes:
        paths: path of each known file plugin, by module name.
    """

    def __init__(self) -> None:
        self.paths: dict[str, Path] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name, *parts = fullname.split(".")
        if name not in self.paths:
            return None
        place = self.paths[name].joinpath(*parts)
        if place.is_dir() and (place / "__init__.py").is_file():
            return _spec(fullname, place / "__init__.py", [str(place)])
        file = place.with_name(f"{place.name}.py") if parts else place
        return _spec(fullname, file) if file.is_file() else None


def _spec(name: str, file: Path, parts: list[str] | None = None) -> ModuleSpec | None:
    return importlib.util.spec_from_file_location(
        name, file, loader=_SourceLoader(name, str(file)), submodule_search_locations=parts
    )


_FINDER = _FileFinder()


def _register(paths: Mapping[str, Path]) -> None:
    _FINDER.paths.update(paths)
    if _FINDER not in sys.meta_path:
        # before PathFinder, which would read `__pycache__` of a folder plugin
        sys.meta_path.insert(0, _FINDER)
