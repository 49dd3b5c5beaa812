"""Python files as modules: plugins that are named by their path. Imports no torch.

The folder of the file stays off the import path, so that a file called `random.py` beside it shadows nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

from x2kit.errors import PluginError


def is_path(text: str) -> bool:
    """Whether a plugin is named by a path and not by a module name."""
    return text.endswith(".py") or "/" in text or "\\" in text


def locate(text: str, base: Path) -> Path:
    """The absolute path that `text` means: `~/` is the home directory, relative paths start at `base`."""
    return (Path.home() / text[2:] if text.startswith("~/") else base / text).resolve()


def module_name(path: Path) -> str:
    """The name of the file in `sys.modules`: the same in every process and on every rank."""
    stem = re.sub(r"\W", "_", path.stem)
    return f"x2kit_file_{stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def import_file(path: Path) -> ModuleType:
    """The module that the file holds; it runs once a process, like every import.

    Args:
        path: absolute path of a Python file, or of a folder with an `__init__.py`, which may then import its
            own parts relatively.
    Raises: PluginError if there is no such file; whatever the file raises when it runs.
    """
    name = module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    # not of Path: its questions raise errors for names that no file can have
    file = path / "__init__.py" if os.path.isdir(path) else path  # noqa: PTH112
    if not os.path.isfile(file):  # noqa: PTH113
        raise PluginError(
            f"there is no file {file}; relative paths start at the file or folder that names them"
        )
    spec = importlib.util.spec_from_file_location(
        name, file, submodule_search_locations=[str(path)] if path.is_dir() else None
    )
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    # before it runs, because pydantic, dataclasses and pickle look classes up by module name
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for stale in [known for known in sys.modules if known == name or known.startswith(name + ".")]:
            del sys.modules[stale]
        raise
    return module
