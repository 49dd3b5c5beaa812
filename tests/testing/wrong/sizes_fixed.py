"""The number of texts is read by `len`, which a trace fixes."""

from __future__ import annotations

from typing import Any

from tests.testing.wrong.right import RightText


class SizesFixed(RightText):
    """The number of texts is read by `len`, which a trace fixes."""

    def network(self) -> Any:
        from torch import Tensor

        from tests.testing.wrong.networks import Text

        class Network(Text):
            def finish(self, tokens: Tensor) -> Tensor:
                return tokens.view(len(tokens), -1, self.width)

        return Network
