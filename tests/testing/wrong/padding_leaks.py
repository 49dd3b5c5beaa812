"""Attention sees the padding of the batch."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightText


class PaddingLeaks(RightText):
    """Attention sees the padding of the batch."""

    def network(self) -> Any:
        from torch import Tensor

        from tests.testing.wrong.networks import Text

        class Network(Text):
            def hidden(self, mask: Tensor) -> None:
                return None

        return Network
