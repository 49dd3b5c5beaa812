"""Marks of settings that may change when a run goes on. Imports no torch.

    log_every: Annotated[int, HARMLESS] = Field(20, gt=0, description="...")

What is not marked makes another run of it. A mark holds for everything below the setting that has it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OnResume:
    """What a change means for the run that goes on: nothing, or that its numbers differ from there."""

    numbers_change: bool


HARMLESS = OnResume(numbers_change=False)
"""The run ends with the very weights that it would have had."""
FROM_HERE = OnResume(numbers_change=True)
"""The steps that are left are made with the new value."""
