"""The command line's parser, whose errors name the nearest option or choice. Imports no torch."""

from __future__ import annotations

import re
from typing import NoReturn

import jsonargparse

from x2kit.recipe.faults import nearest

_UNKNOWN = re.compile(r"unrecognized arguments: (--[^\s=]+)", re.IGNORECASE)
_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")


class ArgumentParser(jsonargparse.ArgumentParser):
    """Add the nearest option to an unknown one, and the nearest choice to an unknown one."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print usage and message, and exit with status 2.

        Args:
            ex: its attribute `subcommand_parser`, where there is one, is the parser of the subcommand.
        """
        parser: jsonargparse.ArgumentParser = getattr(ex, "subcommand_parser", None) or self
        if found := _UNKNOWN.search(message):
            message += nearest(found[1], list(parser._option_string_actions))
        elif found := _CHOICE.search(message):
            message += nearest(found[1], re.findall(r"[\w-]+", found[2]))
        super().error(message, ex)
