"""BEiT-v2 of timm as X²-VLM's vision encoder."""

from __future__ import annotations

from timm.models.beit import Beit, checkpoint_filter_fn
from torch import Tensor

from x2kit.plugin import ImageSpec, VisionEncoder, VisionFeatures
from x2kit_timm.settings import BeitV2
from x2kit_timm.weights import load_published

SHARED_TABLE = "rel_pos_bias.relative_position_bias_table"


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

    def official_keys(self) -> dict[str, str]:
        """Own tensor names to those of released X²-VLM checkpoints, without their prefix `vision_encoder.`.

        The released ones have `blocks.*.attn.relative_position_index` besides, which follows from the grid.
        """
        return {name: name.removeprefix("model.") for name in self.state_dict()}


def _rename(state: dict[str, Tensor], model: Beit) -> dict[str, Tensor]:
    """Published names to timm's; a table that all blocks share is copied to each, as in X²-VLM."""
    if SHARED_TABLE in state:
        shared = state.pop(SHARED_TABLE)
        for block in range(len(model.blocks)):
            state[f"blocks.{block}.attn.relative_position_bias_table"] = shared
    filtered: dict[str, Tensor] = checkpoint_filter_fn(state, model)
    return filtered
