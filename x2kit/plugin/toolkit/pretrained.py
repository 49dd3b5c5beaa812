"""Find files of pretrained models by path or by name in the local Hugging Face cache. Imports no torch.

Nothing is downloaded, so that a recipe is validated within a second, with or without a network.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from x2kit.errors import SettingError, WeightsError
from x2kit.plugin.facts import ImageSpec, Published

SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
"""Suffixes of files of weights, in order of preference."""


def local_path(setting: str, value: str) -> Path | None:
    """Return the path of a `NameOrPath` setting; None for a published name.

    Raises: SettingError for a path that does not exist.
    """
    path = Path(value).expanduser()
    if os.path.exists(path):  # noqa: PTH110  # Path.exists() raises for names that are too long
        return path
    if path.is_absolute() or value.startswith((".", "~")):
        raise SettingError(
            setting, f"{path} does not exist; set a local directory or file, or a published name"
        )
    return None


def pretrained_file(setting: str, value: str, filename: str) -> Path | None:
    """Locate a file of a pretrained model; None if the model exists without such a file.

    Args:
        setting: the setting that holds `value`, for messages.
        value: a directory, a file in it, or a name on the Hugging Face hub.
        filename: for example "config.json".
    Raises: SettingError if the path does not exist, or a published model is not in the local cache.
    """
    path = local_path(setting, value)
    if path is not None:
        found = (path if path.is_dir() else path.parent) / filename
        return found if found.is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(value, filename)
        # The cache records only requested files as absent; another file proves that the model is cached.
        present = cached is not None or isinstance(try_to_load_from_cache(value, "config.json"), str)
    except HFValidationError as error:
        raise SettingError(
            setting, f'"{value}" is neither a path nor a name on the Hugging Face hub'
        ) from error
    if isinstance(cached, str):
        return Path(cached)
    if present:
        return None
    raise SettingError(
        setting,
        f'"{value}" is not a path and not in the local cache; download it with `hf download {value}`, '
        "or set a local directory (start a path with ./)",
    )


def pretrained_weights(setting: str, value: str, filenames: Sequence[str]) -> Path:
    """Locate the file of weights of a `NameOrPath` setting.

    Args:
        setting: the setting that holds `value`, for messages.
        value: a file, a directory with one, or a name on the Hugging Face hub.
        filenames: file names in published models, in order of preference.
    Raises: SettingError if there is none, or several without such a name.
    """
    path = local_path(setting, value)
    if path is not None and path.is_file():
        return path
    for filename in filenames:
        file = pretrained_file(setting, value, filename)
        if file is not None:
            return file
    if path is None:
        raise SettingError(
            setting, f'"{value}" is in the local cache without weights; run `hf download {value}`'
        )
    for suffix in SUFFIXES:
        found = sorted(path.glob(f"*{suffix}"))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(file.name for file in found)
            raise SettingError(setting, f"{path} has several files of weights; set one of them: {names}")
    raise SettingError(setting, f"{path} has no file of weights ({', '.join(SUFFIXES)})")


def chosen_layers(
    layers: int | None, chosen: Sequence[int] | None, available: int, source: str, *, last: bool = False
) -> tuple[int, ...]:
    """Select the layers of a pretrained stack for an encoder that may have fewer.

    Args:
        layers: number of layers of the encoder; None for as many as are chosen, or all.
        chosen: their numbers in the stack, from 0, in order; None for the first ones.
        available: number of layers of the stack.
        source: origin of the stack, for messages.
        last: use the last layers instead of the first.
    Raises: SettingError for the setting `layers` or `pretrained_layers`.
    """
    if chosen is None:
        count = available if layers is None else layers
        if count > available:
            raise SettingError("layers", f"{count}, but {source} has {available}; use fewer or remove it")
        return tuple(range(available - count, available)) if last else tuple(range(count))
    setting = "pretrained_layers"
    absent = [str(number) for number in chosen if not 0 <= number < available]
    if absent:
        raise SettingError(setting, f"{source} has layers 0 to {available - 1}, found {', '.join(absent)}")
    if len(set(chosen)) != len(chosen):
        raise SettingError(setting, "has a duplicate layer")
    if layers is not None and layers != len(chosen):
        raise SettingError(setting, f"has {len(chosen)} layers, but layers is {layers}")
    return tuple(chosen)


def read_json(setting: str, file: Path) -> dict[str, Any]:
    """Read a JSON file. Raises SettingError if it is damaged or not an object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingError(setting, f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise SettingError(setting, f"{file}: expected a JSON object, found {type(content).__name__}")
    return content


def published_config(setting: str, pretrained: str) -> dict[str, Any]:
    """Read the config.json of a published or local transformers model. Raises SettingError if there is none."""
    file = pretrained_file(setting, pretrained, "config.json")
    if file is None:
        raise SettingError(setting, f"{pretrained} has no config.json, so it is not a transformers model")
    return read_json(setting, file)


def published_model(value: str | None) -> Published | None:
    """Describe published weights as far as their files record it; raises nothing, as the files may be gone.

    The revision is that of the local cache, or of `hf download --local-dir`; the licence that of the README.md which a
    full download has.

    Args:
        value: of a `NameOrPath` setting.
    """
    if value is None:
        return None
    path = Path(value).expanduser()
    on_hub = not (path.exists() or path.is_absolute() or value.startswith((".", "~")))
    name = value if on_hub else path.name
    try:
        files = [pretrained_file("pretrained", value, file) for file in ("config.json", "README.md")]
    except SettingError:
        return Published(name, on_hub)
    config, readme = files
    found = config or readme
    revision = None
    if found is not None and on_hub and found.parent.parent.name == "snapshots":
        revision = found.parent.name
    elif found is not None:
        revision = _downloaded_revision(found)
    return Published(name, on_hub, revision, None if readme is None else _stated_licence(readme))


def _downloaded_revision(file: Path) -> str | None:
    """Read the commit that `hf download --local-dir` noted for a file: the first line of its metadata."""
    note = file.parent / ".cache" / "huggingface" / "download" / f"{file.name}.metadata"
    try:
        first = note.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError):
        return None
    return first if re.fullmatch(r"[0-9a-f]{40}", first) else None


def _stated_licence(readme: Path) -> str | None:
    """Read `license` in the front matter of a model card."""
    import yaml

    try:
        matter = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", readme.read_text(encoding="utf-8"), re.DOTALL)
        content = yaml.safe_load(matter[1]) if matter else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    licence = content.get("license") if isinstance(content, dict) else None
    return licence if isinstance(licence, str) else None


FILE_NAME = "image_spec.json"


def save_image_spec(spec: ImageSpec, directory: Path) -> None:
    """Write an image specification; for `save_assets` of encoders with published statistics."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / FILE_NAME).write_text(json.dumps(spec._asdict(), indent=1) + "\n", encoding="utf-8")


def load_image_spec(directory: Path) -> ImageSpec:
    """Read the file that `save_image_spec` wrote. Raises WeightsError if it is missing or damaged."""
    file = directory / FILE_NAME
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        tuples = {name: tuple(value) for name, value in content.items() if isinstance(value, list)}
        return ImageSpec(**{**content, **tuples, "mean": tuples["mean"], "std": tuples["std"]})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{file}: cannot be read as an image specification: {error}") from error
