"""Wrap vision towers of open_clip: CLIP's by its sizes, and any other by its name. Imports torch.

The settings of a tower are open_clip's `vision_cfg` and its `quick_gelu`. B images, N patches, D width, P prefix
tokens.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import open_clip
import timm
import torch
from open_clip.model import CLIPVisionCfg, _build_vision_tower
from open_clip.transformer import LayerNorm, QuickGELU, VisionTransformer
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from x2kit.plugin import NameTable, SettingError, VisionEncoder, VisionFacts, VisionFeatures
from x2kit.plugin.toolkit import load_exactly, load_image_spec, resize_positions, save_image_spec
from x2kit_openclip.loading import (
    load_tower,
    prefix_and_patches,
    resize_tower_positions,
    save_tower,
    tower_weights,
)

if TYPE_CHECKING:
    from x2kit_openclip.config import ClipVision, OpenClipVision

REJECTIONS = (AssertionError, RuntimeError, TypeError, ValueError, KeyError, AttributeError)
TRUNK = "timm_model_name"
"""Key of a tower that is a timm model."""
HEADS = ("proj", "head.", "attn_pool.", "fc_norm.")
"""Prefixes of names of layers after the tokens."""
PREFIX = "visual."
POSITIONS = "model.positional_embedding"
_BLOCK, _LAYER = "model.transformer.resblocks.{layer}", "encoder.layers.{layer}"
OFFICIAL = NameTable(
    [
        ("model.class_embedding", "class_embedding"),
        (POSITIONS, "pos_embed.weight"),
        ("model.conv1.weight", "patch_embed.weight"),
        ("model.ln_pre.{leaf}", "pre_layrnorm.{leaf}"),
        (
            f"{_BLOCK}.attn.in_proj_{{leaf}}",
            " + ".join(f"{_LAYER}.self_attn.{name}_proj.{{leaf}}" for name in ("q", "k", "v")),
        ),
        (f"{_BLOCK}.attn.out_proj.{{leaf}}", f"{_LAYER}.self_attn.out_proj.{{leaf}}"),
        (f"{_BLOCK}.ln_1.{{leaf}}", f"{_LAYER}.layer_norm1.{{leaf}}"),
        (f"{_BLOCK}.mlp.c_fc.{{leaf}}", f"{_LAYER}.mlp.fc1.{{leaf}}"),
        (f"{_BLOCK}.mlp.c_proj.{{leaf}}", f"{_LAYER}.mlp.fc2.{{leaf}}"),
        (f"{_BLOCK}.ln_2.{{leaf}}", f"{_LAYER}.layer_norm2.{{leaf}}"),
        ("model.ln_post.{leaf}", "post_layernorm.{leaf}"),
    ]
)
"""X-VLM reads CLIP in the format of transformers."""


class ClipVisionEncoder(VisionEncoder):
    """CLIP's vision transformer: all tokens after the final norm, the class token as summary.

    Args:
        config: settings of the encoder.
        assets: see `VisionEncoderConfig.build`.
    """

    def __init__(self, config: ClipVision, assets: Path | None = None) -> None:
        super().__init__()
        self.image_spec = config.describe().image if assets is None else load_image_spec(assets)
        self.width = config.width
        self.grid = (config.image_size // config.patch_size,) * 2
        self.model = VisionTransformer(
            image_size=config.image_size,
            patch_size=config.patch_size,
            width=config.width,
            layers=config.layers,
            heads=config.heads,
            mlp_ratio=config.mlp_ratio,
            output_dim=1,  # of the projection to CLIP's common space, removed below
            act_layer=QuickGELU if config.quick_gelu else nn.GELU,
            norm_layer=LayerNorm,
        )
        self.model.proj = None
        self.from_scratch = config.pretrained is None or assets is not None
        if not self.from_scratch:
            file = config.weights()
            own = resize_tower_positions(tower_weights(file, PREFIX), self.model)
            load_exactly(self.model, own, str(file), ignore=("proj",))

    def forward(self, images: Tensor) -> VisionFeatures:
        prefix, patches = prefix_and_patches(self.model, images)
        return VisionFeatures(prefix[:, 0], patches, self.grid)

    def no_decay(self) -> set[str]:
        own = {name for name, _ in self.named_parameters()}
        return own & {f"model.{name}" for name in self.model.no_weight_decay()}

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return OFFICIAL.of(self.state_dict())

    def official_buffers(self) -> dict[str, Tensor]:
        return {"position_ids": torch.arange(1 + self.grid[0] * self.grid[1])[None]}

    def fit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resize positions bicubically."""
        if POSITIONS not in state:
            return state
        return {**state, POSITIONS: resize_positions(state[POSITIONS], self.grid)}

    def save_assets(self, directory: Path) -> None:
        save_image_spec(self.image_spec, directory)


class Shape(NamedTuple):
    """Shape of a tower's output: width D, grid (rows, columns), and number P of prefix tokens."""

    width: int
    grid: tuple[int, int]
    prefix: int


def tower_settings(config: OpenClipVision) -> dict[str, Any]:
    """Resolve the settings of the tower. Raises SettingError for an unknown model or key."""
    model = config.published().get("model_cfg")
    if config.tower is not None or model is None:
        model = _model_config(config.tower)
    unknown = sorted(set(config.vision) - set(CLIPVisionCfg.__dataclass_fields__))
    if unknown:
        near = difflib.get_close_matches(unknown[0], list(CLIPVisionCfg.__dataclass_fields__), n=1)
        nearest = f'; nearest: "{near[0]}"' if near else ""
        raise SettingError("vision", f'a vision_cfg of open_clip has no key "{unknown[0]}"{nearest}')
    tower = {**model["vision_cfg"], **config.vision, "quick_gelu": bool(model.get("quick_gelu", False))}
    if config.image_size is not None:
        tower["image_size"] = config.image_size
    return tower


def _model_config(name: str | None) -> Mapping[str, Any]:
    if name is None:
        raise SettingError("tower", "required: the name of a model of open_clip, such as ViT-B-16-SigLIP2")
    found: Mapping[str, Any] | None = open_clip.get_model_config(name)
    if found is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), n=1)
        nearest = f'; nearest: "{near[0]}"' if near else ""
        raise SettingError("tower", f'open_clip has no model "{name}"{nearest}')
    return found


def describe(config: OpenClipVision, tower: Mapping[str, Any]) -> VisionFacts:
    """Find image, width and grid. Raises SettingError for an unsupported tower or image size."""
    shape = _shape(json.dumps(tower, sort_keys=True))
    if config.summary == "cls" and not shape.prefix:
        raise SettingError(
            "summary", f'"cls", but {config.tower or "this tower"} has no class token; use "mean"'
        )
    return VisionFacts(config.image_spec(int(tower["image_size"])), shape.width, shape.grid)


class OpenClipEncoder(VisionEncoder):
    """Wrap a tower: its tokens after the final norm, with their mean or the class token as summary.

    Args:
        config: settings of the encoder.
        assets: see `VisionEncoderConfig.build`.
    """

    def __init__(self, config: OpenClipVision, assets: Path | None = None) -> None:
        super().__init__()
        self.config = config
        self._tower = tower_settings(config) if assets is None else load_tower(assets)
        self.image_spec = describe(config, self._tower).image if assets is None else load_image_spec(assets)
        self.width, self.grid, self._prefix = _shape(json.dumps(self._tower, sort_keys=True))
        self.model = _create(self._tower)
        self.from_scratch = config.pretrained is None or assets is not None
        if not self.from_scratch:
            self._load(config.weights())

    def _load(self, file: Path) -> None:
        state = tower_weights(file, "visual.trunk." if TRUNK in self._tower else "visual.")
        load_exactly(self.model, self._resized(state), str(file), ignore=HEADS)

    def _resized(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resize learned positions of another grid bicubically."""
        if TRUNK in self._tower and "pos_embed" in state:
            size = list(self.grid)
            positions = resample_abs_pos_embed(state["pos_embed"], size, num_prefix_tokens=self._prefix)
            return {**state, "pos_embed": positions}
        return resize_tower_positions(state, self.model)

    def forward(self, images: Tensor) -> VisionFeatures:
        tokens = _tokens(self.model, images)
        patches = tokens[:, self._prefix :]
        summary = tokens[:, 0] if self.config.summary == "cls" else patches.mean(1)
        return VisionFeatures(summary, patches, self.grid)

    def no_decay(self) -> set[str]:
        own = {name for name, _ in self.named_parameters()}
        return own & {f"model.{name}" for name in self.model.no_weight_decay()}

    def fit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resize positions bicubically."""
        own = self._resized({name.removeprefix("model."): value for name, value in state.items()})
        return {f"model.{name}": value for name, value in own.items()}

    def save_assets(self, directory: Path) -> None:
        save_image_spec(self.image_spec, directory)
        save_tower(self._tower, directory)


@lru_cache(maxsize=64)
def _shape(tower: str) -> Shape:
    """Find the output shape of a tower on the meta device; `tower` is its settings as JSON."""
    settings = json.loads(tower)
    size = int(settings["image_size"])
    with torch.device("meta"):
        model = _create(settings).eval()
        patch = model.patch_size if hasattr(model, "patch_size") else model.patch_embed.patch_size
        step = int(patch[0])  # pixels
        if size % step:
            below = size // step * step
            near = f"{below} or {below + step}" if below else str(step)
            raise SettingError("image_size", f"{size} pixels are not a multiple of {step}; use {near}")
        try:
            tokens = _tokens(model, torch.zeros(1, 3, size, size))
        except REJECTIONS as error:
            raise SettingError(
                "image_size", f"the tower does not accept images of {size} pixels: {error}"
            ) from error
    side = size // step
    return Shape(tokens.shape[2], (side, side), tokens.shape[1] - side * side)


def _create(tower: Mapping[str, Any]) -> nn.Module:
    """Create a tower without pooling and projection. Raises SettingError if it has no patch tokens."""
    settings = {name: value for name, value in tower.items() if name != "quick_gelu"}
    if TRUNK in settings:
        return _create_trunk(settings[TRUNK], int(settings["image_size"]))
    if isinstance(settings.get("layers"), list | tuple) or settings.get("attentional_pool"):
        raise SettingError(
            "tower", "its features are pooled by attention, so it has no patch tokens; use a plain ViT"
        )
    try:
        model: nn.Module = _build_vision_tower(1, CLIPVisionCfg(**settings), bool(tower.get("quick_gelu")))
    except REJECTIONS as error:
        raise SettingError("vision", f"open_clip cannot build this tower: {error}") from error
    model.proj = None  # to CLIP's common space
    return model


def _create_trunk(name: str, size: int) -> nn.Module:
    try:
        model: nn.Module = timm.create_model(name, num_classes=0, global_pool="", img_size=size)
    except REJECTIONS as error:
        raise SettingError("tower", f"its {name} has no patch tokens ({error}); try TimmVision") from error
    if not hasattr(model, "patch_embed") or not hasattr(model, "num_prefix_tokens"):
        raise SettingError("tower", f"its {name} has no patch tokens; try TimmVision")
    return model


def _tokens(model: nn.Module, images: Tensor) -> Tensor:
    """Return all tokens [B, P + N, D] after the final norm."""
    if hasattr(model, "patch_embed"):
        tokens: Tensor = model.forward_features(images)
        return tokens
    return torch.cat(prefix_and_patches(model, images), 1)
