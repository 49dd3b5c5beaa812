"""What x2kit does otherwise than the official code, and the switch that gives the official behaviour."""

from __future__ import annotations

from .evidence import Deliberate

DELIBERATE: list[Deliberate] = []
