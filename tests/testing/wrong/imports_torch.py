"""Its settings import torch, so every start of x2kit does."""

from __future__ import annotations

import torch

from tests.testing.wrong.right import RightVision


class ImportsTorch(RightVision):
    """Its settings import torch, so every start of x2kit does."""

    def scale(self) -> torch.Tensor:
        return torch.ones(self.width)
