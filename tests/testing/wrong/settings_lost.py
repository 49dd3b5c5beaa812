"""A setting that is left out when the settings are written."""

from __future__ import annotations

from pydantic import Field

from tests.testing.wrong.right import RightVision


class SettingsLost(RightVision):
    """A setting that is left out when the settings are written."""

    width: int = Field(8, gt=0, exclude=True, description="width D")
