"""Find, describe and load published weights of timm's models. Imports torch only to load."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from x2kit.plugin import ImageSpec, Published, SettingError, WeightsError
from x2kit.plugin.toolkit import (
    local_path,
    pretrained_file,
    pretrained_weights,
    published_model,
    read_json,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    Model = TypeVar("Model", bound=nn.Module)

FILENAMES = ("model.safetensors", "pytorch_model.bin")
HEADS = (
    *("head.", "head_dist.", "attn_pool.", "lm_head.", "mask_token", "norm_post."),
    *("classifier.", "fc."),
)
"""Prefixes of names in published files that belong to heads, which an encoder ignores."""


FILE_NAME = "timm.json"
IN_CHANNELS = "in_chans"
"""timm's argument for the number of channels."""
NOT_PUBLISHED = ("num_classes", "img_size")
"""Arguments in the config.json of timm 1.0.31 and later that the encoder sets itself: no head, the image size."""


def called_layers(encoder: nn.Module, names: list[str]) -> list[str]:
    """Keep the linear layers that are called: timm's attention with separate biases reads the weight of its `qkv`."""

    def read(name: str) -> bool:
        parent, _, own = name.rpartition(".")
        attention = encoder.get_submodule(parent)
        biased = getattr(attention, "q_bias", None) is not None
        return own == "qkv" and biased and not getattr(attention, "qkv_bias_separate", False)

    return [name for name in names if not read(name)]


class TimmModel(NamedTuple):
    """Name and arguments of a timm model, saved with the weights.

    Attributes:
        name: name in timm, without a weights tag.
        arguments: keyword arguments of its constructor.
    """

    name: str
    arguments: dict[str, Any]

    def save(self, directory: Path) -> None:
        """Write timm.json, since the folder of the pretrained weights may be gone when the encoder is built again."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE_NAME).write_text(json.dumps(self._asdict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> TimmModel:
        """Read the file that `save` wrote. Raises WeightsError if it is missing or damaged."""
        file = directory / FILE_NAME
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            return cls(str(content["name"]), dict(content["arguments"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise WeightsError(f"{file}: cannot be read as a timm model: {error}") from error


def published_file(pretrained: str) -> Path:
    """Locate the file of weights. Raises SettingError if there is none."""
    return pretrained_weights("pretrained", _source(pretrained), FILENAMES)


def published_settings(pretrained: str) -> dict[str, Any]:
    """Read the config.json that timm wrote with the weights; empty if there is none.

    Raises: SettingError if the file is damaged.
    """
    file = pretrained_file("pretrained", _source(pretrained), "config.json")
    return {} if file is None else read_json("pretrained", file)


def published_origin(pretrained: str | None) -> Published | None:
    """Describe published weights; the licence is that of timm's config.json if the card is not there."""
    if pretrained is None:
        return None
    found = published_model(pretrained)
    try:
        found = published_model(_source(pretrained))
        stated = published_settings(pretrained).get("pretrained_cfg", {}).get("license")
    except SettingError:  # moved since, or not in the cache
        return found
    if found is None or found.licence is not None or not isinstance(stated, str):
        return found
    return found._replace(licence=stated)


def published_image(pretrained: str, spec: ImageSpec) -> ImageSpec:
    """Read mean, standard deviation and interpolation of the weights; missing ones are those of `spec`.

    Raises: SettingError if the file is damaged.
    """
    published: dict[str, Any] = published_settings(pretrained).get("pretrained_cfg", {})
    interpolation = published.get("interpolation", spec.interpolation)
    if interpolation not in ("bicubic", "bilinear", "nearest"):
        raise SettingError(
            "pretrained",
            f'{pretrained}: unknown interpolation "{interpolation}"; allowed: bicubic, bilinear, nearest',
        )
    mean, std = published.get("mean", spec.mean), published.get("std", spec.std)
    return spec._replace(mean=tuple(mean), std=tuple(std), interpolation=interpolation)


def load_published(
    model: Model, pretrained: str, rename: Callable[[dict[str, Tensor], Model], dict[str, Tensor]]
) -> None:
    """Load published weights into every parameter and buffer of a model.

    Args:
        model: a timm model without a head.
        pretrained: a path, or the name of a timm model with its weights tag.
        rename: converts published names and sizes to those of the model, usually by timm's own filter.
    Raises: WeightsError if the file is damaged or does not fit.
    """
    from x2kit.plugin.toolkit import load_exactly, read_weights

    file = published_file(pretrained)
    load_exactly(model, rename(read_weights(file), model), str(file), ignore=HEADS)


def _source(pretrained: str) -> str:
    """Return a path unchanged, and for a timm name its repository on the hub, `timm/NAME.TAG`."""
    if local_path("pretrained", pretrained) is not None:
        return pretrained
    name = pretrained.removeprefix("hf-hub:").removeprefix("hf_hub:")
    return name if "/" in name else f"timm/{name}"
