"""Wrap timm's VisionTransformer, with a patch or a convolutional stem."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import timm
import torch
from timm.layers import ConvNormAct, GroupNorm1, HybridEmbed
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from x2kit.plugin import SettingError, VisionEncoder, VisionFeatures
from x2kit.plugin.toolkit import load_image_spec, save_image_spec, sinusoid_2d
from x2kit_timm.loading import load_published

if TYPE_CHECKING:
    from x2kit_timm.config import TimmViT


class TimmViTEncoder(VisionEncoder):
    """timm's VisionTransformer, its final norm applied to every token; the summary is a mean or the class token.

    Args:
        config: settings of the encoder.
        assets: see `VisionEncoderConfig.build`.
    """

    def __init__(self, config: TimmViT, assets: Path | None = None) -> None:
        super().__init__()
        self.config = config
        if assets is not None:
            self.image_spec = load_image_spec(assets)
            self.grid = (config.image_size // config.patch_size,) * 2
        else:
            self.image_spec, _, self.grid = config.describe()
        self.width = config.width
        self.model = _transformer(config)
        self.from_scratch = config.pretrained is None or assets is not None
        if config.pretrained is not None and assets is None:
            load_published(self.model, config.pretrained, _rename)
        if config.position_scale:
            self._init_positions(config.position_scale)

    def _init_positions(self, scale: float) -> None:
        """Initialise the learned position embedding of the patches as a 2-D sinusoid."""
        if self.model.pos_embed is None:
            raise SettingError(
                "position_scale", f"{self.config.architecture} has no learned position embedding"
            )
        positions = sinusoid_2d(self.grid, self.width) * scale
        with torch.no_grad():
            self.model.pos_embed[0, -len(positions) :] = positions

    def forward(self, images: Tensor) -> VisionFeatures:
        if self.config.stem == "conv":  # a quarter faster on CPUs
            images = images.contiguous(memory_format=torch.channels_last)
        tokens = self.model.forward_features(images)
        patches = tokens[:, self.model.num_prefix_tokens :]
        summary = tokens[:, 0] if self.config.summary == "cls" else patches.mean(1)
        return VisionFeatures(summary, patches, self.grid)

    def no_decay(self) -> set[str]:
        own = {name for name, _ in self.named_parameters()}
        return own & {f"model.{name}" for name in self.model.no_weight_decay()}

    def save_assets(self, directory: Path) -> None:
        save_image_spec(self.image_spec, directory)


def _transformer(config: TimmViT) -> VisionTransformer:
    settings = dict(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        mlp_ratio=config.mlp_ratio,
        drop_path_rate=config.drop_path,
        class_token=config.class_token,
        num_classes=0,
        global_pool="",
        fc_norm=False,
        weight_init="jax",  # as the original ViT: scaled by the width, while timm's 0.02 suits only wide layers
    )
    if config.stem == "conv":
        settings["embed_layer"] = partial(_conv_stem, norm=config.stem_norm)
    try:
        model = timm.create_model(config.architecture, **settings)
    except (RuntimeError, TypeError) as error:  # unknown name, or a family with other arguments
        raise SettingError(
            "architecture", f'timm cannot build "{config.architecture}" with these sizes: {error}'
        ) from error
    if not isinstance(model, VisionTransformer):
        raise SettingError(
            "architecture",
            f'"{config.architecture}" is a {type(model).__name__}, expected a timm VisionTransformer',
        )
    return model


def _conv_stem(*, img_size: int, patch_size: int, embed_dim: int, norm: str, **rest: object) -> HybridEmbed:
    """Build 3×3 convolutions of stride 2, each with norm and ReLU, then one of 1×1 (arXiv:2106.14881)."""
    steps = patch_size.bit_length() - 1
    channels = [3, *(embed_dim // 2**i for i in reversed(range(steps)))]
    norm_layer = nn.BatchNorm2d if norm == "batch" else GroupNorm1
    halving = [
        ConvNormAct(few, many, kernel_size=3, stride=2, norm_layer=norm_layer, act_layer=nn.ReLU)
        for few, many in pairwise(channels)
    ]
    return HybridEmbed(nn.Sequential(*halving), img_size=img_size, patch_size=1, embed_dim=embed_dim)


def _rename(state: dict[str, Tensor], model: VisionTransformer) -> dict[str, Tensor]:
    """Convert published names; a norm after pooling is here applied to each token before pooling."""
    state = checkpoint_filter_fn(state, model)
    if "norm.weight" not in state:
        state = {
            f"norm{name.removeprefix('fc_norm')}" if name.startswith("fc_norm.") else name: value
            for name, value in state.items()
        }
    return state
