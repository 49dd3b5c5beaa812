"""Models of timm whose shapes are found by asking them. Imports torch.

B images, N patches, D width, P prefix tokens (class and registers).
"""

from __future__ import annotations

import difflib
import inspect
import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn
from torch.nn import functional as F

from x2kit.plugin import ImageSpec, SettingError, VisionEncoder, VisionFacts, VisionFeatures
from x2kit.plugin.toolkit.pretrained import load_image_spec, save_image_spec
from x2kit_timm.any_vision import IN_CHANNELS, Chosen, TimmVision
from x2kit_timm.weights import load_published, published_about, published_image

REFUSALS = (AssertionError, RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError)
"""What timm's models raise for arguments and images that they cannot take."""

PREFIX = "model."


class Shape(NamedTuple):
    """What a model makes of images: width D, grid (rows, columns), and whether a class token stands in front."""

    width: int
    grid: tuple[int, int]
    has_class: bool


def facts_of(config: TimmVision, chosen: Chosen) -> VisionFacts:
    """Image, width and grid. Raises SettingError if timm has no such model or it takes no such images."""
    _require_known(chosen.name)
    usual = timm.get_pretrained_cfg(chosen.name)
    about = {} if config.pretrained is None else published_about(config.pretrained).get("pretrained_cfg", {})
    own_size = (about.get("input_size") or usual.input_size)[-1]
    size = config.image_size or own_size
    shape = _shape(chosen.name, size, json.dumps(chosen.arguments, sort_keys=True))
    if config.summary == "cls" and not shape.has_class:
        raise SettingError("summary", f'"cls", but {chosen.name} has no class token; use "mean"')
    image = ImageSpec(size, 3, tuple(usual.mean), tuple(usual.std))
    if usual.interpolation in ("bilinear", "nearest"):
        image = image._replace(interpolation=usual.interpolation)
    if config.pretrained is not None:
        image = published_image(config.pretrained, image)
    channels = chosen.arguments.get(IN_CHANNELS, 3)
    mean, std = (
        given or (own if len(own) == channels else (sum(own) / len(own),) * channels)
        for given, own in ((config.mean, image.mean), (config.std, image.std))
    )
    image = image._replace(channels=channels, mean=mean, std=std, value_range=config.value_range)
    return VisionFacts(image, shape.width, shape.grid)


class TimmVisionEncoder(VisionEncoder):
    """The last tokens of a timm model, normalised; position 0 is chosen.

    Args:
        config: what is built.
        assets: see `VisionEncoderConfig.build`.
    """

    def __init__(self, config: TimmVision, assets: Path | None = None) -> None:
        super().__init__()
        self.config = config
        self._chosen = config.chosen() if assets is None else Chosen.load(assets)
        if assets is None:
            self.image_spec, self.width, self.grid = config.describe()
        else:
            self.image_spec = load_image_spec(assets)
            arguments = json.dumps(self._chosen.arguments, sort_keys=True)
            self.width, self.grid, _ = _shape(self._chosen.name, self.image_spec.size, arguments)
        self.model = _created(
            self._chosen.name, self.image_spec.size, self._chosen.arguments, config.drop_path
        )
        self._from_scratch = config.pretrained is None or assets is not None
        if config.pretrained is not None and assets is None:
            load_published(self.model, config.pretrained, _rename)

    def forward(self, images: Tensor) -> VisionFeatures:
        tokens, prefix, _ = _tokens(self.model, images)
        patches = tokens[:, prefix:]
        summary = tokens[:, 0] if self.config.summary == "cls" else patches.mean(1)
        return VisionFeatures(summary, patches, self.grid)

    def fresh(self) -> set[str]:
        return super().fresh() if self._from_scratch else set()

    def no_decay(self) -> set[str]:
        if not hasattr(self.model, "no_weight_decay"):
            return set()
        own = {name for name, _ in self.named_parameters()}
        return own & {f"{PREFIX}{name}" for name in self.model.no_weight_decay()}

    def fit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Positions are resized as timm does it in each family."""
        fitted = _filtered({name.removeprefix(PREFIX): value for name, value in state.items()}, self.model)
        return {f"{PREFIX}{name}": value for name, value in fitted.items()}

    def save_assets(self, directory: Path) -> None:
        save_image_spec(self.image_spec, directory)
        self._chosen.save(directory)


def _require_known(name: str) -> None:
    if timm.is_model(name):
        return
    near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=1)
    nearest = f'; nearest: "{near[0]}"' if near else ""
    raise SettingError("architecture", f'timm has no model "{name}"{nearest}')


@lru_cache(maxsize=64)
def _shape(name: str, size: int, arguments: str) -> Shape:
    """What the model makes of images of this size, seen on tensors without memory; arguments as JSON."""
    with torch.device("meta"):
        model = _created(name, size, json.loads(arguments), drop_path=0.0).eval()
        step = max(stage["reduction"] for stage in model.feature_info)
        if size % step:
            below = size // step * step
            near = f"{below} or {below + step}" if below else str(step)
            raise SettingError(
                "image_size", f"{size} pixels are not tiled by the {step} of {name}; use {near}"
            )
        try:
            channels = json.loads(arguments).get(IN_CHANNELS, 3)
            tokens, prefix, grid = _tokens(model, torch.zeros(1, channels, size, size))
        except REFUSALS as error:
            raise SettingError("image_size", f"{name} takes no images of {size} pixels: {error}") from error
    rows, columns = grid or (size // step, size // step)
    count = tokens.shape[1] - prefix
    if rows * columns != count:
        raise SettingError(
            "architecture", f"{name} gives {count} patches, which are no grid of {rows} × {columns}"
        )
    has_class = prefix > 0 and getattr(model, "cls_token", None) is not None
    return Shape(tokens.shape[2], (rows, columns), has_class)


def _created(name: str, size: int, arguments: dict[str, Any], drop_path: float) -> nn.Module:
    """A model without anything behind its tokens."""
    settings = dict(arguments)
    if timm.get_pretrained_cfg(name).fixed_input_size:
        settings.setdefault("img_size", size)
    if drop_path:
        settings["drop_path_rate"] = drop_path
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, **settings)
        model.reset_classifier(0, "")
    except REFUSALS as error:
        raise SettingError("arguments", f"timm cannot build {name} with {settings}: {error}") from error
    return model


def _tokens(model: nn.Module, images: Tensor) -> tuple[Tensor, int, tuple[int, int] | None]:
    """All normalised tokens [B, P + N, D], P, and the grid where the model itself keeps it."""
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
    """The norm that some models have behind their pooling; here each token goes through it."""
    for norm in (getattr(model, "fc_norm", None), getattr(getattr(model, "head", None), "norm", None)):
        if isinstance(norm, nn.LayerNorm):  # timm's norm of [B, D, H, W] is one too
            return norm
    return None


def _filtered(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Names and sizes as the model has them, by the filter that timm keeps beside each family."""
    family = sys.modules[type(model).__module__]
    filter_ = getattr(family, "checkpoint_filter_fn", None)
    if filter_ is None:
        return state
    takes_model = len(inspect.signature(filter_).parameters) > 1
    found: dict[str, Tensor] = filter_(state, model) if takes_model else filter_(state)
    return found


def _of_channels(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The first convolution for as many channels as the model has."""
    first = model.pretrained_cfg["first_conv"]
    own = model.state_dict()
    for name in (f"{part}.weight" for part in ([first] if isinstance(first, str) else first)):
        if name in state and name in own and state[name].shape[1] != own[name].shape[1]:
            state = state | {name: adapt_input_conv(own[name].shape[1], state[name])}
    return state


def _rename(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Published names to ours: a norm behind the pooling and a norm of all tokens are one norm here."""
    state = _of_channels(_filtered(state, model), model)
    own = set(model.state_dict())
    for here, there in (("norm", "fc_norm"), ("fc_norm", "norm")):
        if f"{here}.weight" in own and f"{here}.weight" not in state and f"{there}.weight" in state:
            state = {
                f"{here}{name.removeprefix(there)}" if name.startswith(f"{there}.") else name: value
                for name, value in state.items()
            }
    return state
