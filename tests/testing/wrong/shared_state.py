"""All encoders of a process have one and the same layer."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightVision

_LAYERS: dict[int, Any] = {}


class SharedState(RightVision):
    """All encoders of a process have one and the same layer."""

    def network(self) -> Any:
        from torch import nn

        from tests.testing.wrong.networks import Vision

        class Network(Vision):
            def __init__(self, settings: RightVision) -> None:
                super().__init__(settings)
                self.project = _LAYERS.setdefault(settings.width, nn.Conv2d(3, settings.width, 4, 4))

        return Network
