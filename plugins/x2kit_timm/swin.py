"""Swin transformers of timm as X-VLM's first vision encoder."""

from __future__ import annotations

from timm.models.swin_transformer import SwinTransformer, checkpoint_filter_fn
from torch import Tensor

from x2kit.plugin import ImageSpec, NameTable, VisionEncoder, VisionFeatures
from x2kit_timm.relative_positions import resize_table, window_of
from x2kit_timm.settings import Swin
from x2kit_timm.weights import load_published

TABLE = "relative_position_bias_table"
OFFICIAL = NameTable(
    [
        # timm merges patches at the start of a stage, X-VLM at the end of the stage before
        ("model.layers.{stage}.downsample.{rest}", "layers.{stage-1}.downsample.{rest}"),
        ("model.{rest}", "{rest}"),
    ]
)


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
            load_published(self.model, config.pretrained, _rename)

    def forward(self, images: Tensor) -> VisionFeatures:
        patches = self.model.forward_features(images).flatten(1, 2)
        return VisionFeatures(patches.mean(1), patches, self.grid)

    def fresh(self) -> set[str]:
        return super().fresh() if self._from_scratch else set()

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
        """Relative position tables of another window are interpolated, as X-VLM does."""
        return _fit_tables(state, self.state_dict())


def _fit_tables(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tables of `state` at the windows of `own`; a stage smaller than the window has one of its own size."""
    return {
        name: resize_table(value, window_of(len(own[name]), extra_rows=0), extra_rows=0)
        if name.endswith(TABLE) and name in own
        else value
        for name, value in state.items()
    }


def _rename(state: dict[str, Tensor], model: SwinTransformer) -> dict[str, Tensor]:
    """Published names to timm's."""
    filtered: dict[str, Tensor] = checkpoint_filter_fn(_fit_tables(state, model.state_dict()), model)
    return filtered
