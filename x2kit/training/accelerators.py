"""Peaks of a few accelerators, for estimates of time. Imports no torch."""

from __future__ import annotations

from typing import NamedTuple

UTILISATION = 0.35
"""Share of the peak that an estimate assumes; it is not measured: `x2kit bench` measures a recipe's on your device."""


class Peak(NamedTuple):
    """Operations a second of dense matrix products, as the maker states them."""

    bf16: float
    fp32: float


ACCELERATORS: dict[str, Peak] = {
    "a100": Peak(312e12, 19.5e12),
    "h100": Peak(989e12, 67e12),
    "h200": Peak(989e12, 67e12),
    "rtx4090": Peak(165e12, 82.6e12),
}
"""SXM variants; fp32 without TF32."""
DEFAULT_ACCELERATOR = "a100"


def hours(flops: float, accelerator: str, precision: str) -> float:
    """Hours of one accelerator for so many operations, at the assumed utilisation; `auto` counts as bf16."""
    peak = ACCELERATORS[accelerator]
    return flops / ((peak.fp32 if precision == "fp32" else peak.bf16) * UTILISATION) / 3600
