"""Wrap timm's BEiT-v2 as the vision encoder of X²-VLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from timm.models.beit import Beit, checkpoint_filter_fn
from torch import Tensor

from x2kit.plugin import ImageSpec, NameTable, VisionEncoder, VisionFeatures
from x2kit.plugin.toolkit import resize_relative_positions
from x2kit_timm.loading import called_layers, load_published

if TYPE_CHECKING:
    from x2kit_timm.config import BeitV2

TABLE = "relative_position_bias_table"
SHARED_TABLE = f"rel_pos_bias.{TABLE}"
OFFICIAL = NameTable([("model.{rest}", "{rest}")])


class BeitV2Encoder(VisionEncoder):
    """BEiT-v2 whose class token takes part in attention and is then dropped (X2-VLM, models/beit2.py).

    Args:
        config: settings of the encoder.
        load: whether to read the pretrained weights of the settings.
    """

    def __init__(self, config: BeitV2, *, load: bool) -> None:
        super().__init__()
        self.width = config.width
        self.grid = (config.image_size // config.patch_size,) * 2
        self.image_spec = ImageSpec(config.image_size)
        self.model = Beit(
            img_size=config.image_size,
            patch_size=config.patch_size,
            num_classes=0,
            global_pool="avg",  # the final norm is fc_norm, which only the patches go through
            embed_dim=config.width,
            depth=config.depth,
            num_heads=config.heads,
            mlp_ratio=config.mlp_ratio,
            qkv_bias=True,
            init_values=config.init_values,
            drop_path_rate=config.drop_path,
            use_abs_pos_emb=False,
            use_rel_pos_bias=True,
        )
        self.from_scratch = config.pretrained is None or not load
        if config.pretrained is not None and load:
            load_published(self.model, config.pretrained, _rename)

    def forward(self, images: Tensor) -> VisionFeatures:
        patches = self.model.fc_norm(self.model.forward_features(images)[:, 1:])
        return VisionFeatures(patches.mean(1), patches, self.grid)

    def adapted_layers(self) -> list[str]:
        return called_layers(self, super().adapted_layers())

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return OFFICIAL.of(self.state_dict())

    def official_buffers(self) -> dict[str, Tensor]:
        return {
            f"blocks.{number}.attn.relative_position_index": block.attn.relative_position_index
            for number, block in enumerate(self.model.blocks)
        }

    def fit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Interpolate the tables of relative positions."""
        return _resize_tables(state, self.grid[0])


def _rename(state: dict[str, Tensor], model: Beit) -> dict[str, Tensor]:
    """Convert published names to timm's; a table shared by all blocks is copied to each, as in X²-VLM."""
    if SHARED_TABLE in state:
        shared = state.pop(SHARED_TABLE)
        for block in range(len(model.blocks)):
            state[f"blocks.{block}.attn.{TABLE}"] = shared
    filtered: dict[str, Tensor] = checkpoint_filter_fn(
        _resize_tables(state, model.patch_embed.grid_size[0]), model
    )
    return filtered


def _resize_tables(state: dict[str, Tensor], window: int) -> dict[str, Tensor]:
    return {
        name: resize_relative_positions(value, window) if name.endswith(TABLE) else value
        for name, value in state.items()
    }
