"""Images are normalised in place."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightVision


class WritesIntoItsInput(RightVision):
    """Images are normalised in place."""

    def network(self) -> Any:
        from torch import Tensor

        from tests.testing.wrong.networks import Vision

        class Network(Vision):
            def patches(self, images: Tensor) -> Tensor:
                return super().patches(images.sub_(0.1))

        return Network
