"""Wrap timm's Swin transformer as the first vision encoder of X-VLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from timm.models.swin_transformer import SwinTransformer, checkpoint_filter_fn
from torch import Tensor

from x2kit.plugin import ImageSpec, NameTable, VisionEncoder, VisionFeatures
from x2kit.plugin.toolkit import resize_relative_positions, window_side
from x2kit_timm.loading import load_published

if TYPE_CHECKING:
    from x2kit_timm.config import Swin

TABLE = "relative_position_bias_table"
OFFICIAL = NameTable(
    [
        # timm merges patches at the start of a stage, X-VLM at the end of the stage before
        ("model.layers.{stage}.downsample.{rest}", "layers.{stage-1}.downsample.{rest}"),
        ("model.{rest}", "{rest}"),
    ]
)


class SwinEncoder(VisionEncoder):
    """Swin transformer: the last stage's normalised tokens, with their mean as summary.

    Args:
        config: settings of the encoder.
        load: whether to read the pretrained weights of the settings.
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
        self.from_scratch = config.pretrained is None or not load
        if config.pretrained is not None and load:
            load_published(self.model, config.pretrained, _rename)

    def forward(self, images: Tensor) -> VisionFeatures:
        patches = self.model.forward_features(images).flatten(1, 2)
        return VisionFeatures(patches.mean(1), patches, self.grid)

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return OFFICIAL.of(self.state_dict())

    def official_buffers(self) -> dict[str, Tensor]:
        found = {}
        for stage, layer in enumerate(self.model.layers):
            for number, block in enumerate(layer.blocks):
                name = f"layers.{stage}.blocks.{number}"
                found[f"{name}.attn.relative_position_index"] = block.attn.relative_position_index
                if block.attn_mask is not None:
                    found[f"{name}.attn_mask"] = block.attn_mask
        return found

    def fit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Interpolate the tables of relative positions to the windows of this size, as X-VLM does."""
        return _resize_tables(state, self.state_dict())


def _resize_tables(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Resize the tables of `state` to the windows of `own`; a small stage has a window of its own size."""
    return {
        name: resize_relative_positions(value, window_side(len(own[name]), extra_rows=0), extra_rows=0)
        if name.endswith(TABLE) and name in own
        else value
        for name, value in state.items()
    }


def _rename(state: dict[str, Tensor], model: SwinTransformer) -> dict[str, Tensor]:
    """Convert published names to timm's."""
    filtered: dict[str, Tensor] = checkpoint_filter_fn(_resize_tables(state, model.state_dict()), model)
    return filtered
