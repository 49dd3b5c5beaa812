"""Exchange models with others: one module per subcommand. Imports no torch."""

from __future__ import annotations

SUBCOMMANDS = ("models", "convert", "export", "publish")
"""Subcommands whose modules lie in this package."""
