"""What published weights say about their pictures: timm writes it into config.json beside them. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from x2kit.plugin import ImageSpec, SettingError, WeightsError
from x2kit.plugin.pretrained import local_path, pretrained_file, read_json

ASSET = "image_spec.json"


def hub_name(pretrained: str) -> str:
    """The repository on the Hugging Face hub of a timm model name with or without `hf-hub:` and owner."""
    name = pretrained.removeprefix("hf-hub:").removeprefix("hf_hub:")
    return name if "/" in name else f"timm/{name}"


def published_image(pretrained: str | None, size: int) -> ImageSpec:
    """Mean, standard deviation and interpolation that the weights were trained with; CLIP's if they do not say.

    Raises: SettingError if the weights are neither at this path nor in the local cache.
    """
    spec = ImageSpec(size)
    if pretrained is None:
        return spec
    name = pretrained if local_path("pretrained", pretrained) is not None else hub_name(pretrained)
    file = pretrained_file("pretrained", name, "config.json")
    if file is None:
        return spec
    published: dict[str, Any] = read_json("pretrained", file).get("pretrained_cfg", {})
    interpolation = published.get("interpolation", spec.interpolation)
    if interpolation not in ("bicubic", "bilinear", "nearest"):
        raise SettingError("pretrained", f'{file}: interpolation "{interpolation}" is not known')
    return spec._replace(
        mean=tuple(published.get("mean", spec.mean)),
        std=tuple(published.get("std", spec.std)),
        interpolation=interpolation,
    )


def save_image(spec: ImageSpec, directory: Path) -> None:
    """Write the picture's statistics beside saved weights."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / ASSET).write_text(json.dumps(spec._asdict(), indent=1) + "\n", encoding="utf-8")


def load_image(directory: Path) -> ImageSpec:
    """Read what `save_image` wrote. Raises WeightsError if it is missing or damaged."""
    file = directory / ASSET
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return ImageSpec(**{**content, "mean": tuple(content["mean"]), "std": tuple(content["std"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{file}: not readable as an encoder's picture statistics: {error}") from error
