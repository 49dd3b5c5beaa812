"""Swin transformers of timm as X-VLM's first vision encoder."""

from __future__ import annotations

import re

from timm.models.swin_transformer import SwinTransformer, checkpoint_filter_fn
from torch import Tensor

from x2kit.plugin import ImageSpec, VisionEncoder, VisionFeatures
from x2kit_timm.settings import Swin
from x2kit_timm.weights import load_published


class SwinEncoder(VisionEncoder):
    """The last stage's normalised tokens, their mean in front.

    Args:
        config: what is built.
        load: read the pretrained weights that the settings name.
    """

    def __init__(self, config: Swin, *, load: bool) -> None:
        super().__init__()
        stages = len(config.depths)
        self.width = config.width * 2 ** (stages - 1)
        self.grid = (config.image_size // (config.patch_size * 2 ** (stages - 1)),) * 2
        self.image_spec = ImageSpec(config.image_size)
        self.model = SwinTransformer(
            img_size=config.image_size,
            patch_size=config.patch_size,
            num_classes=0,
            global_pool="",
            embed_dim=config.width,
            depths=config.depths,
            num_heads=config.heads,
            window_size=config.window,
            mlp_ratio=config.mlp_ratio,
            drop_path_rate=config.drop_path,
        )
        self._from_scratch = config.pretrained is None or not load
        if config.pretrained is not None and load:
            load_published(self.model, config.pretrained, checkpoint_filter_fn)

    def forward(self, images: Tensor) -> VisionFeatures:
        patches = self.model.forward_features(images).flatten(1, 2)
        return VisionFeatures(patches.mean(1), patches, self.grid)

    def fresh(self) -> set[str]:
        return super().fresh() if self._from_scratch else set()

    def official_keys(self) -> dict[str, str]:
        """Own tensor names to those of released X-VLM checkpoints, without their prefix `vision_encoder.`.

        timm merges patches at the start of a stage, the released ones at the end of the stage before. They
        also have `relative_position_index` and `attn_mask`, which follow from the grid.
        """
        return {
            name: re.sub(
                r"layers\.(\d+)\.downsample",
                lambda stage: f"layers.{int(stage[1]) - 1}.downsample",
                name.removeprefix("model."),
            )
            for name in self.state_dict()
        }
