"""A layer that it declares for adapters is read without a call."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightVision


class AdaptersUnused(RightVision):
    """A layer that it declares for adapters is read without a call."""

    def network(self) -> Any:
        from torch import Tensor, nn
        from torch.nn import functional as F

        from tests.testing.wrong.networks import Vision

        class Network(Vision):
            def __init__(self, settings: RightVision) -> None:
                super().__init__(settings)
                self.mix = nn.Linear(self.width, self.width)

            def adapted_layers(self) -> list[str]:
                return ["mix"]

            def patches(self, images: Tensor) -> Tensor:
                return F.linear(super().patches(images), self.mix.weight, self.mix.bias)

        return Network
