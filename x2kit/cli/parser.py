"""Argument parser of the command line: nearest names in errors, examples in help. Imports no torch."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

import jsonargparse

from x2kit.recipe.faults import nearest

_UNKNOWN = re.compile(r"unrecognized arguments: (--[^\s=]+)", re.IGNORECASE)
_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")


class HelpFormatter(argparse.RawDescriptionHelpFormatter, jsonargparse.DefaultHelpFormatter):
    """Keep the line breaks of examples, and omit empty defaults."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.default in (None, False, []):
            return action.help or ""
        return super()._get_help_string(action)


class ArgumentParser(jsonargparse.ArgumentParser):
    """Parse arguments without abbreviations; errors name the nearest option or choice."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False} | settings)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print usage and message, and exit with status 2.

        Args:
            message: of argparse; the nearest option or choice is appended.
            ex: its attribute `subcommand_parser`, if present, is the parser of the subcommand.
        """
        parser: jsonargparse.ArgumentParser = getattr(ex, "subcommand_parser", None) or self
        if found := _UNKNOWN.search(message):
            message += nearest(found[1], list(parser._option_string_actions))
        elif found := _CHOICE.search(message):
            message += nearest(found[1], re.findall(r"[\w-]+", found[2]))
        super().error(message, ex)


def add_plugin_argument(parser: jsonargparse.ArgumentParser) -> None:
    """Add `--plugin`, which loads plugins that are not installed."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="PLUGIN",
        help="a plugin to load: Python file or importable module; repeatable",
    )
