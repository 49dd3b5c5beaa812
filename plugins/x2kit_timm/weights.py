"""Published weights of timm's models: where they lie, what they say about images.

Imports no torch at start.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from x2kit.plugin import ImageSpec, SettingError
from x2kit.plugin.toolkit.pretrained import local_path, pretrained_file, pretrained_weights, read_json

if TYPE_CHECKING:
    from torch import Tensor, nn

    Model = TypeVar("Model", bound=nn.Module)

FILENAMES = ("model.safetensors", "pytorch_model.bin")
HEADS = (
    *("head.", "head_dist.", "attn_pool.", "lm_head.", "mask_token", "norm_post."),
    *("classifier.", "fc."),
)
"""Beginnings of names in published files that belong to heads, which an encoder has no use for."""


def published_file(pretrained: str) -> Path:
    """The file of weights. Raises SettingError if there is none."""
    return pretrained_weights("pretrained", _source(pretrained), FILENAMES)


def published_about(pretrained: str) -> dict[str, Any]:
    """What timm wrote in a config.json beside the weights; empty if there is none.

    Raises: SettingError if the file is damaged.
    """
    file = pretrained_file("pretrained", _source(pretrained), "config.json")
    return {} if file is None else read_json("pretrained", file)


def published_image(pretrained: str, spec: ImageSpec) -> ImageSpec:
    """Mean, standard deviation and interpolation of the weights' training; those of `spec` if they do not say.

    Raises: SettingError if the file is damaged.
    """
    published: dict[str, Any] = published_about(pretrained).get("pretrained_cfg", {})
    interpolation = published.get("interpolation", spec.interpolation)
    if interpolation not in ("bicubic", "bilinear", "nearest"):
        raise SettingError("pretrained", f'{pretrained}: interpolation "{interpolation}" is not known')
    mean, std = published.get("mean", spec.mean), published.get("std", spec.std)
    return spec._replace(mean=tuple(mean), std=tuple(std), interpolation=interpolation)


def load_published(
    model: Model, pretrained: str, rename: Callable[[dict[str, Tensor], Model], dict[str, Tensor]]
) -> None:
    """Fill a model completely.

    Args:
        model: of timm, without a head.
        pretrained: a path, or the name of a timm model with its weights tag.
        rename: published names and sizes to those of the model; timm's own filter, as a rule.
    Raises: WeightsError if the file is damaged or does not fit.
    """
    from x2kit.plugin.toolkit.weights import load_exactly, read_weights

    file = published_file(pretrained)
    load_exactly(model, rename(read_weights(file), model), str(file), ignore=HEADS)


def _source(pretrained: str) -> str:
    """A path as it is; for a timm name its repository on the hub, `timm/NAME.TAG`."""
    if local_path("pretrained", pretrained) is not None:
        return pretrained
    name = pretrained.removeprefix("hf-hub:").removeprefix("hf_hub:")
    return name if "/" in name else f"timm/{name}"
