"""Every row sees the whole image, whatever its region is."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightFusion


class MaskIgnored(RightFusion):
    """Every row sees the whole image, whatever its region is."""

    def network(self) -> Any:
        from torch import Tensor

        from tests.testing.wrong.networks import Fusion

        class Network(Fusion):
            def hidden(self, mask: Tensor) -> None:
                return None

        return Network
