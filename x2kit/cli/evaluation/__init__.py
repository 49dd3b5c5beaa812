"""Measure models and show what was measured: one module per subcommand. Imports no torch."""

from __future__ import annotations

SUBCOMMANDS = ("evaluate", "iglue", "report", "results")
"""Subcommands whose modules lie in this package."""
