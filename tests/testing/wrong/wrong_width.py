"""It says another width than its patches have."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightVision


class WrongWidth(RightVision):
    """It says another width than its patches have."""

    def network(self) -> Any:
        import torch
        from torch import Tensor

        from tests.testing.wrong.networks import Vision

        class Network(Vision):
            def patches(self, images: Tensor) -> Tensor:
                return torch.cat([super().patches(images)] * 2, 2)

        return Network
