"""No gradient goes through the patches."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightVision


class GradientStops(RightVision):
    """No gradient goes through the patches."""

    def network(self) -> Any:
        from torch import Tensor

        from tests.testing.wrong.networks import Vision

        class Network(Vision):
            def patches(self, images: Tensor) -> Tensor:
                return super().patches(images).detach()

        return Network
