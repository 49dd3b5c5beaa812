"""A random projection is a buffer that is not saved."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightVision


class WeightsNotSaved(RightVision):
    """A random projection is a buffer that is not saved."""

    def network(self) -> Any:
        import torch
        from torch import Tensor

        from tests.testing.wrong.networks import Vision

        class Network(Vision):
            def __init__(self, settings: RightVision) -> None:
                super().__init__(settings)
                self.register_buffer("mixing", torch.randn(self.width, self.width), persistent=False)

            def patches(self, images: Tensor) -> Tensor:
                return super().patches(images) @ self.mixing

        return Network
