"""It says another grid than it has."""

from __future__ import annotations

from tests.testing.wrong.right import RightVision
from x2kit.plugin import VisionFacts


class WrongGrid(RightVision):
    """It says another grid than it has."""

    def describe(self) -> VisionFacts:
        return super().describe()._replace(grid=(2, 4))
