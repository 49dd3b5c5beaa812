"""Whatever it is moved to, it returns float32."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightVision


class FixedDtype(RightVision):
    """Whatever it is moved to, it returns float32."""

    def network(self) -> Any:
        from torch import Tensor

        from tests.testing.wrong.networks import Vision

        class Network(Vision):
            def patches(self, images: Tensor) -> Tensor:
                return super().patches(images).float()

        return Network
