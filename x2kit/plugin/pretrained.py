"""Where pretrained weights lie: a local path, or a published name in the local Hugging Face cache. Imports no torch.

Nothing here downloads: a recipe is checked in a second, with or without a network.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from x2kit.errors import SettingError


def local_path(setting: str, value: str) -> Path | None:
    """The path that a `NameOrPath` setting means, None if it is a published name.

    Raises: SettingError if it is written as a path and nothing lies there.
    """
    path = Path(value).expanduser()
    if path.exists():
        return path
    if path.is_absolute() or value.startswith((".", "~")):
        raise SettingError(
            setting, f"{path} does not exist; give a local directory or file, or a published name"
        )
    return None


def pretrained_file(setting: str, value: str, filename: str) -> Path | None:
    """A file of a pretrained model, None if the model is there without such a file.

    Args:
        setting: the setting that holds `value`, for messages.
        value: a directory, a file (then its directory is meant), or a name on the Hugging Face hub.
        filename: for example "config.json".
    Raises: SettingError if nothing is there, or a published model is not in the local cache.
    """
    path = local_path(setting, value)
    if path is not None:
        found = (path if path.is_dir() else path.parent) / filename
        return found if found.is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(value, filename)
    except HFValidationError as error:
        raise SettingError(
            setting, f'"{value}" is neither a path nor a name on the Hugging Face hub'
        ) from error
    if isinstance(cached, str):
        return Path(cached)
    if cached is not None:  # the cache remembers that the model has no such file
        return None
    raise SettingError(
        setting,
        f'"{value}" is not in the local cache and no such path exists; download it with `hf download {value}`, '
        "or give a local directory (start it with ./ if it is meant to be a path)",
    )


def read_json(setting: str, file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises SettingError if it is damaged or holds something else."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingError(setting, f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise SettingError(setting, f"{file} holds {type(content).__name__}, expected an object")
    return content
