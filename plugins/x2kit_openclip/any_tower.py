"""Towers of open_clip whose shapes are found by asking them. Imports torch.

A tower's settings are `vision_cfg` of open_clip, with `quick_gelu` beside. B images, N patches, D width, P tokens in
front of the patches.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import timm
import torch
from open_clip.model import CLIPVisionCfg, _build_vision_tower
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from x2kit.plugin import ImageSpec, SettingError, VisionEncoder, VisionFacts, VisionFeatures
from x2kit.plugin.toolkit.pretrained import load_image_spec, pretrained_weights, save_image_spec
from x2kit.plugin.toolkit.weights import load_exactly
from x2kit_openclip.any_vision import OpenClipVision, load_tower, save_tower
from x2kit_openclip.published import positions_fitted, tokens_before_and_of_patches, tower_weights
from x2kit_openclip.settings import FILENAMES

REFUSALS = (AssertionError, RuntimeError, TypeError, ValueError, KeyError, AttributeError)
TRUNK = "timm_model_name"
HEADS = ("proj", "head.", "attn_pool.", "fc_norm.")
"""Beginnings of names behind the tokens."""


class Shape(NamedTuple):
    """What a tower makes of images: width D, grid (rows, columns), and the tokens P in front of the patches."""

    width: int
    grid: tuple[int, int]
    prefix: int


def tower_of(config: OpenClipVision) -> dict[str, Any]:
    """The settings of the tower. Raises SettingError if open_clip has no such model, or no such setting."""
    model = config.published().get("model_cfg")
    if config.tower is not None or model is None:
        model = _model(config.tower)
    unknown = sorted(set(config.vision) - set(CLIPVisionCfg.__dataclass_fields__))
    if unknown:
        near = difflib.get_close_matches(unknown[0], list(CLIPVisionCfg.__dataclass_fields__), n=1)
        nearest = f'; nearest: "{near[0]}"' if near else ""
        raise SettingError("vision", f'a vision_cfg of open_clip has no key "{unknown[0]}"{nearest}')
    tower = {**model["vision_cfg"], **config.vision, "quick_gelu": bool(model.get("quick_gelu", False))}
    if config.image_size is not None:
        tower["image_size"] = config.image_size
    return tower


def _model(name: str | None) -> Mapping[str, Any]:
    if name is None:
        raise SettingError("tower", "missing: the name of a model of open_clip, such as ViT-B-16-SigLIP2")
    found: Mapping[str, Any] | None = open_clip.get_model_config(name)
    if found is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), n=1)
        nearest = f'; nearest: "{near[0]}"' if near else ""
        raise SettingError("tower", f'open_clip has no model "{name}"{nearest}')
    return found


def facts_of(config: OpenClipVision, tower: Mapping[str, Any]) -> VisionFacts:
    """Image, width and grid. Raises SettingError for a tower or an image size that cannot be."""
    shape = _shape(json.dumps(tower, sort_keys=True))
    if config.summary == "cls" and not shape.prefix:
        raise SettingError(
            "summary", f'"cls", but {config.tower or "this tower"} has no class token; use "mean"'
        )
    all_images: dict[str, Any] = config.published().get("preprocess_cfg", {})
    image = ImageSpec(int(tower["image_size"]))
    image = image._replace(
        mean=tuple(all_images.get("mean", image.mean)),
        std=tuple(all_images.get("std", image.std)),
        interpolation=all_images.get("interpolation", image.interpolation),
    )
    return VisionFacts(image, shape.width, shape.grid)


class OpenClipEncoder(VisionEncoder):
    """All tokens of a tower after its final norm; position 0 is chosen.

    Args:
        config: what is built.
        assets: see `VisionEncoderConfig.build`.
    """

    def __init__(self, config: OpenClipVision, assets: Path | None = None) -> None:
        super().__init__()
        self.config = config
        self._tower = tower_of(config) if assets is None else load_tower(assets)
        self.image_spec = facts_of(config, self._tower).image if assets is None else load_image_spec(assets)
        self.width, self.grid, self._prefix = _shape(json.dumps(self._tower, sort_keys=True))
        self.model = _created(self._tower)
        self._from_scratch = config.pretrained is None or assets is not None
        if config.pretrained is not None and assets is None:
            self._load(pretrained_weights("pretrained", config.pretrained, FILENAMES))

    def _load(self, file: Path) -> None:
        state = tower_weights(file, "visual.trunk." if TRUNK in self._tower else "visual.")
        load_exactly(self.model, self._fitted(state), str(file), ignore=HEADS)

    def _fitted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Learned positions of another grid resized bicubically; the rest as it is."""
        if TRUNK in self._tower and "pos_embed" in state:
            size = list(self.grid)
            positions = resample_abs_pos_embed(state["pos_embed"], size, num_prefix_tokens=self._prefix)
            return {**state, "pos_embed": positions}
        return positions_fitted(state, self.model)

    def forward(self, images: Tensor) -> VisionFeatures:
        tokens = _tokens(self.model, images)
        patches = tokens[:, self._prefix :]
        summary = tokens[:, 0] if self.config.summary == "cls" else patches.mean(1)
        return VisionFeatures(summary, patches, self.grid)

    def fresh(self) -> set[str]:
        return super().fresh() if self._from_scratch else set()

    def no_decay(self) -> set[str]:
        own = {name for name, _ in self.named_parameters()}
        return own & {f"model.{name}" for name in self.model.no_weight_decay()}

    def fit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Positions are resized bicubically."""
        own = self._fitted({name.removeprefix("model."): value for name, value in state.items()})
        return {f"model.{name}": value for name, value in own.items()}

    def save_assets(self, directory: Path) -> None:
        save_image_spec(self.image_spec, directory)
        save_tower(self._tower, directory)


@lru_cache(maxsize=64)
def _shape(tower: str) -> Shape:
    """What the tower makes of its images, seen on tensors without memory; settings as JSON."""
    settings = json.loads(tower)
    size = int(settings["image_size"])
    with torch.device("meta"):
        model = _created(settings).eval()
        step = _step(model)
        if size % step:
            below = size // step * step
            near = f"{below} or {below + step}" if below else str(step)
            raise SettingError("image_size", f"{size} pixels are not tiled by {step}; use {near}")
        try:
            tokens = _tokens(model, torch.zeros(1, 3, size, size))
        except REFUSALS as error:
            raise SettingError(
                "image_size", f"the tower takes no images of {size} pixels: {error}"
            ) from error
    side = size // step
    return Shape(tokens.shape[2], (side, side), tokens.shape[1] - side * side)


def _step(model: nn.Module) -> int:
    """Pixels a side of a patch."""
    patch = model.patch_size if hasattr(model, "patch_size") else model.patch_embed.patch_size
    return int(patch[0])


def _created(tower: Mapping[str, Any]) -> nn.Module:
    """A tower without what is behind its tokens. Raises SettingError if it has no tokens of its patches."""
    settings = {name: value for name, value in tower.items() if name != "quick_gelu"}
    if TRUNK in settings:
        return _trunk(settings[TRUNK], int(settings["image_size"]))
    if isinstance(settings.get("layers"), list | tuple) or settings.get("attentional_pool"):
        raise SettingError(
            "tower", "its last features are pooled by attention and are none of patches; choose a plain ViT"
        )
    try:
        model: nn.Module = _build_vision_tower(1, CLIPVisionCfg(**settings), bool(tower.get("quick_gelu")))
    except REFUSALS as error:
        raise SettingError("vision", f"open_clip cannot build this tower: {error}") from error
    model.proj = None  # to CLIP's common space
    return model


def _trunk(name: str, size: int) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, num_classes=0, global_pool="", img_size=size)
    except (*REFUSALS, TypeError) as error:
        raise SettingError(
            "tower", f"its {name} keeps no tokens of patches ({error}); TimmVision may read it"
        ) from error
    if not hasattr(model, "patch_embed") or not hasattr(model, "num_prefix_tokens"):
        raise SettingError("tower", f"its {name} keeps no tokens of patches; TimmVision may read it")
    return model


def _tokens(model: nn.Module, images: Tensor) -> Tensor:
    """All tokens [B, P + N, D] after the final norm."""
    if hasattr(model, "patch_embed"):
        tokens: Tensor = model.forward_features(images)
        return tokens
    return torch.cat(tokens_before_and_of_patches(model, images), 1)
