"""Compare results: paired tests and intervals, what differs between runs, published numbers. Imports no torch."""

from __future__ import annotations

from x2kit.evaluation.comparison.comparing import Comparison, Settings, compare
from x2kit.evaluation.comparison.measurements import Measurement, open_measurement
from x2kit.evaluation.comparison.writing import write_comparison

__all__ = ["Comparison", "Measurement", "Settings", "compare", "open_measurement", "write_comparison"]
