"""An encoder's picture statistics as a file beside its weights. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path

from x2kit.errors import WeightsError
from x2kit.plugin.facts import ImageSpec

FILE_NAME = "image_spec.json"


def save_image_spec(spec: ImageSpec, directory: Path) -> None:
    """Write the statistics; for `save_assets` of encoders whose statistics come with pretrained weights."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / FILE_NAME).write_text(json.dumps(spec._asdict(), indent=1) + "\n", encoding="utf-8")


def load_image_spec(directory: Path) -> ImageSpec:
    """Read what `save_image_spec` wrote. Raises WeightsError if it is missing or damaged."""
    file = directory / FILE_NAME
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        tuples = {name: tuple(value) for name, value in content.items() if isinstance(value, list)}
        return ImageSpec(**{**content, **tuples, "mean": tuples["mean"], "std": tuples["std"]})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{file}: not readable as an encoder's picture statistics: {error}") from error
