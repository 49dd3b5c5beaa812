"""BandViT: its network. Imported when it is built."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from x2kit.plugin import VisionEncoder, VisionFeatures

from . import BandViT


class BandViTEncoder(VisionEncoder):
    """Images [B, C, H, W], normalised, to a summary [B, D] and patches [B, N, D]."""

    def __init__(self, settings: BandViT) -> None:
        super().__init__()
        self.image_spec, self.width, self.grid = settings.describe()
        patch = settings.patch_size
        self.patches = nn.Conv2d(self.image_spec.channels, self.width, patch, patch)
        self.positions = nn.Parameter(torch.randn(1, self.grid[0] * self.grid[1], self.width) * 0.02)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                self.width,
                settings.heads,
                4 * self.width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(self.width)

    def forward(self, images: Tensor) -> VisionFeatures:
        """Every band of a patch goes into its vector; the summary is the mean of the patches."""
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        tokens = self.norm(tokens)
        return VisionFeatures(tokens.mean(1), tokens, self.grid)

    def no_decay(self) -> set[str]:
        """Positions do not decay."""
        return {"positions"}
