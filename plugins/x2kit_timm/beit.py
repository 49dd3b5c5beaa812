"""BEiT-v2 of timm as X²-VLM's vision encoder."""

from __future__ import annotations

from timm.models.beit import Beit, checkpoint_filter_fn
from torch import Tensor

from x2kit.plugin import ImageSpec, NameTable, VisionEncoder, VisionFeatures
from x2kit_timm.relative_positions import resize_table
from x2kit_timm.settings import BeitV2
from x2kit_timm.weights import load_published

TABLE = "relative_position_bias_table"
SHARED_TABLE = f"rel_pos_bias.{TABLE}"
OFFICIAL = NameTable([("model.{rest}", "{rest}")])


class BeitV2Encoder(VisionEncoder):
    """The class token takes part in attention and is then thrown away (X2-VLM repository, models/beit2.py).

    Args:
        config: what is built.
        load: read the pretrained weights that the settings name.
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
        self._from_scratch = config.pretrained is None or not load
        if config.pretrained is not None and load:
            load_published(self.model, config.pretrained, _rename)

    def forward(self, images: Tensor) -> VisionFeatures:
        patches = self.model.fc_norm(self.model.forward_features(images)[:, 1:])
        return VisionFeatures(patches.mean(1), patches, self.grid)

    def fresh(self) -> set[str]:
        return super().fresh() if self._from_scratch else set()

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return OFFICIAL.of(self.state_dict())

    def official_buffers(self) -> dict[str, Tensor]:
        return {
            f"blocks.{number}.attn.relative_position_index": block.attn.relative_position_index
            for number, block in enumerate(self.model.blocks)
        }

    def fit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Relative position tables are interpolated."""
        window = self.grid[0]
        return {
            name: resize_table(value, window) if name.endswith(TABLE) else value
            for name, value in state.items()
        }


def _rename(state: dict[str, Tensor], model: Beit) -> dict[str, Tensor]:
    """Published names to timm's; a table that all blocks share is copied to each, as in X²-VLM."""
    if SHARED_TABLE in state:
        shared = state.pop(SHARED_TABLE)
        for block in range(len(model.blocks)):
            state[f"blocks.{block}.attn.{TABLE}"] = shared
    window = model.patch_embed.grid_size[0]
    state = {
        name: resize_table(value, window) if name.endswith(TABLE) else value for name, value in state.items()
    }
    filtered: dict[str, Tensor] = checkpoint_filter_fn(state, model)
    return filtered
