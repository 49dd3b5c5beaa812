"""Telling plugins what will go away, at the line of theirs that uses it. Imports no torch."""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import NamedTuple


class Leaving(NamedTuple):
    """What replaces a thing of the plugin API, and the API version that no longer has it."""

    instead: str
    until: int


LEAVING: dict[str, Leaving] = {}
"""Names of `x2kit.plugin` that go away; they stand in its table of names that are imported when used. None now."""


def warn_deprecated(what: str, leaving: Leaving) -> None:
    """A DeprecationWarning that stands at the newest line of code that is not x2kit's, which is the plugin's.

    Args:
        what: as the plugin wrote it: a name, or "argument X of Y".
        leaving: what to write instead, and until when the old way works.
    """
    asker = sys._getframe(1).f_back
    if asker is not None and _imports(asker):
        return  # `from x2kit.plugin import X` asks twice; first the import system, whether there is an X
    warnings.warn(
        f"{what} goes away with API version {leaving.until} of x2kit.plugin; write {leaving.instead}",
        DeprecationWarning,
        stacklevel=_level_of_plugin(),
    )


def _level_of_plugin() -> int:
    """As `warnings.warn` in the caller counts: 1 for that itself; it leaves out frames of the import system."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and (_of(frame) == "x2kit" or _imports(frame)):
        frame = frame.f_back
        level += not _imports(frame)
    return level


def _of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _imports(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith("<frozen importlib")
