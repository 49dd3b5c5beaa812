"""Texts are normalised over their batch, in evaluation too."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightText


class RowsMix(RightText):
    """Texts are normalised over their batch, in evaluation too."""

    def network(self) -> Any:
        from torch import Tensor

        from tests.testing.wrong.networks import Text

        class Network(Text):
            def finish(self, tokens: Tensor) -> Tensor:
                return tokens - tokens.mean(0)

        return Network
