"""Dropout that does not ask whether it is training."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightVision


class RandomInEvaluation(RightVision):
    """Dropout that does not ask whether it is training."""

    def network(self) -> Any:
        from torch import Tensor
        from torch.nn import functional as F

        from tests.testing.wrong.networks import Vision

        class Network(Vision):
            def patches(self, images: Tensor) -> Tensor:
                return F.dropout(super().patches(images), 0.5)

        return Network
