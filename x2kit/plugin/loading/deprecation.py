"""Warn about deprecated names and arguments of the plugin API, at the plugin's line. Imports no torch."""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import NamedTuple


class Deprecated(NamedTuple):
    """Replacement of a deprecated name, and the API version without it."""

    instead: str
    until: int


DEPRECATED: dict[str, Deprecated] = {}
"""Deprecated names of `x2kit.plugin`, which must also be in its table of lazy names. None at present."""


def warn_deprecated(what: str, deprecated: Deprecated) -> None:
    """Issue a DeprecationWarning at the innermost line of code outside x2kit, the plugin's.

    Args:
        what: the name as the plugin uses it, or "argument X of Y".
        deprecated: its replacement and last version.
    """
    caller = sys._getframe(1).f_back
    if caller is not None and _imports(caller):
        return  # `from x2kit.plugin import X` reads X twice; first the import system tests that it exists
    warnings.warn(
        f"{what} is removed in API version {deprecated.until} of x2kit.plugin; use {deprecated.instead}",
        DeprecationWarning,
        stacklevel=_level_of_plugin(),
    )


def _level_of_plugin() -> int:
    """Return the stack level for `warnings.warn` in the caller, which skips frames of the import system."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and (_of(frame) == "x2kit" or _imports(frame)):
        frame = frame.f_back
        level += not _imports(frame)
    return level


def _of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _imports(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith("<frozen importlib")
