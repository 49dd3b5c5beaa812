"""Add the subcommand `x2kit demo`: use a model in the browser."""

from __future__ import annotations

from x2kit.plugin import Subcommands, hookimpl

__all__ = ["x2kit_subcommands"]


@hookimpl
def x2kit_subcommands(subcommands: Subcommands) -> None:
    """Add `x2kit demo`."""
    subcommands.add("demo", "x2kit_demo.subcommand", "use a model in the browser")
