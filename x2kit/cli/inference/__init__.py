"""Use a model from the shell: one module per subcommand. Imports no torch."""

from __future__ import annotations

SUBCOMMANDS = ("embed", "match", "locate", "classify", "answer", "describe", "explain")
"""Subcommands whose modules lie in this package."""
