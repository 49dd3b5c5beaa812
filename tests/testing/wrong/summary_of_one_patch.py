"""The summary is the first patch, and knows nothing of the others."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightVision


class SummaryOfOnePatch(RightVision):
    """The summary is the first patch, and knows nothing of the others."""

    def network(self) -> Any:
        from torch import Tensor

        from tests.testing.wrong.networks import Vision

        class Network(Vision):
            def summary(self, patches: Tensor) -> Tensor:
                return patches[:, 0]

        return Network
