"""The vision transformer of open_clip as a vision encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from open_clip.transformer import LayerNorm, QuickGELU, VisionTransformer
from torch import Tensor, nn

from x2kit.plugin import NameTable, VisionEncoder, VisionFeatures
from x2kit.plugin.toolkit.positions import resize_positions
from x2kit.plugin.toolkit.pretrained import load_image_spec, save_image_spec
from x2kit.plugin.toolkit.weights import load_exactly
from x2kit_openclip.published import positions_fitted, tokens_before_and_of_patches, tower_weights
from x2kit_openclip.settings import ClipVision

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
"""X-VLM reads CLIP as transformers writes it."""


class ClipVisionEncoder(VisionEncoder):
    """All tokens after the final norm; the class token is position 0.

    Args:
        config: what is built.
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
            output_dim=1,  # of the projection to CLIP's common space, which goes
            act_layer=QuickGELU if config.quick_gelu else nn.GELU,
            norm_layer=LayerNorm,
        )
        self.model.proj = None
        self._from_scratch = config.pretrained is None or assets is not None
        if not self._from_scratch:
            self._load(config.weights())

    def _load(self, file: Path) -> None:
        own = positions_fitted(tower_weights(file, PREFIX), self.model)
        load_exactly(self.model, own, str(file), ignore=("proj",))

    def forward(self, images: Tensor) -> VisionFeatures:
        before, patches = tokens_before_and_of_patches(self.model, images)
        return VisionFeatures(before[:, 0], patches, self.grid)

    def fresh(self) -> set[str]:
        return super().fresh() if self._from_scratch else set()

    def no_decay(self) -> set[str]:
        own = {name for name, _ in self.named_parameters()}
        return own & {f"model.{name}" for name in self.model.no_weight_decay()}

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return OFFICIAL.of(self.state_dict())

    def official_buffers(self) -> dict[str, Tensor]:
        return {"position_ids": torch.arange(1 + self.grid[0] * self.grid[1])[None]}

    def fit(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Positions are resized bicubically."""
        if POSITIONS not in state:
            return state
        return {**state, POSITIONS: resize_positions(state[POSITIONS], self.grid)}

    def save_assets(self, directory: Path) -> None:
        save_image_spec(self.image_spec, directory)
