"""Wrap any timm model; its shapes are found by a run on the meta device. Imports torch.

B images, N patches, D width, P prefix tokens (class and registers).
"""

from __future__ import annotations

import difflib
import inspect
import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn
from torch.nn import functional as F

from x2kit.plugin import ImageSpec, SettingError, VisionEncoder, VisionFacts, VisionFeatures
from x2kit.plugin.toolkit import load_image_spec, save_image_spec
from x2kit_timm.loading import (
    IN_CHANNELS,
    TimmModel,
    called_layers,
    load_published,
    published_image,
    published_settings,
)

if TYPE_CHECKING:
    from x2kit_timm.config import TimmVision

REJECTIONS = (AssertionError, RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError)
"""Errors of timm's models for unsupported arguments and images."""

PREFIX = "model."


class Shape(NamedTuple):
    """Shape of a model's output: width D, grid (rows, columns), and whether it has a class token."""

    width: int
    grid: tuple[int, int]
    has_class: bool


def describe(config: TimmVision, timm_model: TimmModel) -> VisionFacts:
    """Find image, width and grid. Raises SettingError for an unknown model or an unsupported image size."""
    _require_known(timm_model.name)
    default = timm.get_pretrained_cfg(timm_model.name)
    published = {} if config.pretrained is None else published_settings(config.pretrained)
    own_size = (published.get("pretrained_cfg", {}).get("input_size") or default.input_size)[-1]
    size = config.image_size or own_size
    shape = _shape(timm_model.name, size, json.dumps(timm_model.arguments, sort_keys=True))
    if config.summary == "cls" and not shape.has_class:
        raise SettingError("summary", f'"cls", but {timm_model.name} has no class token; use "mean"')
    image = ImageSpec(size, 3, tuple(default.mean), tuple(default.std))
    if default.interpolation in ("bilinear", "nearest"):
        image = image._replace(interpolation=default.interpolation)
    if config.pretrained is not None:
        image = published_image(config.pretrained, image)
    channels = timm_model.arguments.get(IN_CHANNELS, 3)
    mean, std = (
        given or (own if len(own) == channels else (sum(own) / len(own),) * channels)
        for given, own in ((config.mean, image.mean), (config.std, image.std))
    )
    image = image._replace(channels=channels, mean=mean, std=std, value_range=config.value_range)
    return VisionFacts(image, shape.width, shape.grid)


class TimmVisionEncoder(VisionEncoder):
    """Wrap a timm model: its last normalised tokens, with their mean or the class token as summary.

    Args:
        config: settings of the encoder.
        assets: see `VisionEncoderConfig.build`.
    """

    def __init__(self, config: TimmVision, assets: Path | None = None) -> None:
        super().__init__()
        self.config = config
        self._timm_model = config.timm_model() if assets is None else TimmModel.load(assets)
        if assets is None:
            self.image_spec, self.width, self.grid = describe(config, self._timm_model)
        else:
            self.image_spec = load_image_spec(assets)
            arguments = json.dumps(self._timm_model.arguments, sort_keys=True)
            self.width, self.grid, _ = _shape(self._timm_model.name, self.image_spec.size, arguments)
        self.model = _create(
            self._timm_model.name, self.image_spec.size, self._timm_model.arguments, config.drop_path
        )
        self.from_scratch = config.pretrained is None or assets is not None
        if config.pretrained is not None and assets is None:
            load_published(self.model, config.pretrained, _rename)

    def forward(self, images: Tensor) -> VisionFeatures:
        tokens, prefix, _ = _tokens(self.model, images)
        patches = tokens[:, prefix:]
        summary = tokens[:, 0] if self.config.summary == "cls" else patches.mean(1)
        return VisionFeatures(summary, patches, self.grid)

    def adapted_layers(self) -> list[str]:
        return called_layers(self, super().adapted_layers())

    def no_decay(self) -> set[str]:
        if not hasattr(self.model, "no_weight_decay"):
            return set()
        own = {name for name, _ in self.named_parameters()}
        return own & {f"{PREFIX}{name}" for name in self.model.no_weight_decay()}

    def fit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resize positions by timm's filter of the model's family."""
        fitted = _filter({name.removeprefix(PREFIX): value for name, value in state.items()}, self.model)
        return {f"{PREFIX}{name}": value for name, value in fitted.items()}

    def save_assets(self, directory: Path) -> None:
        save_image_spec(self.image_spec, directory)
        self._timm_model.save(directory)


def _require_known(name: str) -> None:
    if timm.is_model(name):
        return
    near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=1)
    nearest = f'; nearest: "{near[0]}"' if near else ""
    raise SettingError("architecture", f'timm has no model "{name}"{nearest}')


@lru_cache(maxsize=64)
def _shape(name: str, size: int, arguments: str) -> Shape:
    """Find the output shape for images of this size on the meta device; `arguments` is JSON."""
    with torch.device("meta"):
        model = _create(name, size, json.loads(arguments), drop_path=0.0).eval()
        step = max(stage["reduction"] for stage in model.feature_info)
        if size % step:
            below = size // step * step
            near = f"{below} or {below + step}" if below else str(step)
            raise SettingError(
                "image_size", f"{size} pixels are not a multiple of {step}, as {name} needs; use {near}"
            )
        try:
            channels = json.loads(arguments).get(IN_CHANNELS, 3)
            tokens, prefix, grid = _tokens(model, torch.zeros(1, channels, size, size))
        except REJECTIONS as error:
            raise SettingError(
                "image_size", f"{name} does not accept images of {size} pixels: {error}"
            ) from error
    rows, columns = grid or (size // step, size // step)
    count = tokens.shape[1] - prefix
    if rows * columns != count:
        raise SettingError(
            "architecture", f"{name} gives {count} patches, which are no grid of {rows} × {columns}"
        )
    has_class = prefix > 0 and getattr(model, "cls_token", None) is not None
    return Shape(tokens.shape[2], (rows, columns), has_class)


def _create(name: str, size: int, arguments: dict[str, Any], drop_path: float) -> nn.Module:
    """A model without anything behind its tokens."""
    settings = dict(arguments)
    if timm.get_pretrained_cfg(name).fixed_input_size:
        settings.setdefault("img_size", size)
    if drop_path:
        settings["drop_path_rate"] = drop_path
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **settings)
        model.reset_classifier(0, "")
    except REJECTIONS as error:
        raise SettingError("arguments", f"timm cannot build {name} with {settings}: {error}") from error
    return model


def _tokens(model: nn.Module, images: Tensor) -> tuple[Tensor, int, tuple[int, int] | None]:
    """Return all normalised tokens [B, P + N, D], P, and the grid if the output has two spatial axes."""
    features: Tensor = model.forward_features(images)
    prefix, grid = int(getattr(model, "num_prefix_tokens", 0)), None
    if features.ndim == 4:
        if getattr(model, "output_fmt", "NCHW") != "NHWC":
            features = features.permute(0, 2, 3, 1)
        prefix, grid = 0, (features.shape[1], features.shape[2])
        features = features.flatten(1, 2)
    norm = _late_norm(model)
    if norm is not None:
        features = F.layer_norm(features, features.shape[-1:], norm.weight, norm.bias, norm.eps)
    return features, prefix, grid


def _late_norm(model: nn.Module) -> nn.LayerNorm | None:
    """Return the norm that some models apply after pooling; here it is applied to each token."""
    for norm in (getattr(model, "fc_norm", None), getattr(getattr(model, "head", None), "norm", None)):
        if isinstance(norm, nn.LayerNorm):  # includes timm's LayerNorm2d
            return norm
    return None


def _filter(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Convert names and sizes to the model's by the checkpoint filter of its timm family."""
    family = sys.modules[type(model).__module__]
    filter_ = getattr(family, "checkpoint_filter_fn", None)
    if filter_ is None:
        return state
    takes_model = len(inspect.signature(filter_).parameters) > 1
    found: dict[str, Tensor] = filter_(state, model) if takes_model else filter_(state)
    return found


def _adapt_channels(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Adapt the first convolution to the channels of the model."""
    first = model.pretrained_cfg["first_conv"]
    own = model.state_dict()
    for name in (f"{part}.weight" for part in ([first] if isinstance(first, str) else first)):
        if name in state and name in own and state[name].shape[1] != own[name].shape[1]:
            state = state | {name: adapt_input_conv(own[name].shape[1], state[name])}
    return state


def _rename(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Convert published names; a norm after pooling and a norm of all tokens are the same norm here."""
    state = _adapt_channels(_filter(state, model), model)
    own = set(model.state_dict())
    for here, there in (("norm", "fc_norm"), ("fc_norm", "norm")):
        if f"{here}.weight" in own and f"{here}.weight" not in state and f"{there}.weight" in state:
            state = {
                f"{here}{name.removeprefix(there)}" if name.startswith(f"{there}.") else name: value
                for name, value in state.items()
            }
    return state
