"""Vision transformers of timm as vision encoders."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path

import timm
import torch
from timm.layers import ConvNormAct, GroupNorm1, HybridEmbed
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from x2kit.plugin import SettingError, VisionEncoder, VisionFeatures
from x2kit.plugin.toolkit.positions import sinusoid_2d
from x2kit.plugin.toolkit.pretrained import load_image_spec, save_image_spec
from x2kit_timm.settings import TimmViT
from x2kit_timm.weights import load_published


class TimmViTEncoder(VisionEncoder):
    """timm's VisionTransformer; its final norm is applied to every token, then position 0 is chosen.

    Args:
        config: what is built.
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
        self._from_scratch = config.pretrained is None or assets is not None
        if config.pretrained is not None and assets is None:
            load_published(self.model, config.pretrained, _rename)
        if config.position_scale:
            self._place(config.position_scale)

    def _place(self, scale: float) -> None:
        """Start the learned position embedding of the patches as a 2-D sinusoid."""
        if self.model.pos_embed is None:
            raise SettingError(
                "position_scale", f"{self.config.architecture} has no learned position embedding"
            )
        positions = sinusoid_2d(self.grid, self.width) * scale
        with torch.no_grad():
            self.model.pos_embed[0, -len(positions) :] = positions

    def forward(self, images: Tensor) -> VisionFeatures:
        if self.config.stem == "conv":  # convolutions in this layout take a quarter less time on CPUs
            images = images.contiguous(memory_format=torch.channels_last)
        tokens = self.model.forward_features(images)
        patches = tokens[:, self.model.num_prefix_tokens :]
        summary = tokens[:, 0] if self.config.summary == "cls" else patches.mean(1)
        return VisionFeatures(summary, patches, self.grid)

    def fresh(self) -> set[str]:
        return super().fresh() if self._from_scratch else set()

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
        weight_init="jax",  # as the original ViT: the spread follows the width, where timm's 0.02 fits wide ones only
    )
    if config.stem == "conv":
        settings["embed_layer"] = partial(_conv_stem, norm=config.stem_norm)
    try:
        model = timm.create_model(config.architecture, **settings)
    except (RuntimeError, TypeError) as error:  # unknown name; or another family, which takes other arguments
        raise SettingError(
            "architecture", f'timm cannot build "{config.architecture}" so: {error}'
        ) from error
    if not isinstance(model, VisionTransformer):
        raise SettingError(
            "architecture",
            f'"{config.architecture}" is a {type(model).__name__}, expected a timm VisionTransformer',
        )
    return model


def _conv_stem(*, img_size: int, patch_size: int, embed_dim: int, norm: str, **rest: object) -> HybridEmbed:
    """Convolutions that halve the image, each with norm and ReLU, then one of 1×1 (arXiv:2106.14881)."""
    steps = patch_size.bit_length() - 1
    channels = [3, *(embed_dim // 2**i for i in reversed(range(steps)))]
    norm_layer = nn.BatchNorm2d if norm == "batch" else GroupNorm1
    halving = [
        ConvNormAct(few, many, kernel_size=3, stride=2, norm_layer=norm_layer, act_layer=nn.ReLU)
        for few, many in pairwise(channels)
    ]
    return HybridEmbed(nn.Sequential(*halving), img_size=img_size, patch_size=1, embed_dim=embed_dim)


def _rename(state: dict[str, Tensor], model: VisionTransformer) -> dict[str, Tensor]:
    """Published names to ours: a norm after pooling is the same norm before it, one token at a time."""
    state = checkpoint_filter_fn(state, model)
    if "norm.weight" not in state:
        state = {
            f"norm{name.removeprefix('fc_norm')}" if name.startswith("fc_norm.") else name: value
            for name, value in state.items()
        }
    return state
