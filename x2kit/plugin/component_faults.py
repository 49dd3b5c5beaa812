"""Attribute errors in a component's code to the component and its plugin. Imports no torch."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from x2kit.distributed.processes import PARTNER_GONE
from x2kit.errors import PluginError, X2KitError
from x2kit.plugin.components import ComponentConfig, Kind
from x2kit.plugin.registry import owner_of

NOUNS: dict[Kind, str] = {
    "vision": "vision encoder",
    "text": "text encoder",
    "fusion": "fusion encoder",
    "head": "head",
    "source": "data source",
    "task": "task",
    "objective": "objective",
    "optimizer": "optimiser",
    "reporter": "reporter",
    "index": "index",
}
WORKER_GONE = "DataLoader worker"
"""Start of torch's message for a killed data worker, raised by a signal handler at any line of code."""


@contextmanager
def component_faults(component: ComponentConfig | None) -> Iterator[None]:
    """Raise PluginError for an error of the block, with component, plugin, file and line.

    Errors of x2kit and errors with another cause (out of memory, a lost rank or data worker) are not changed.

    Args:
        component: its code is called in the block; None changes no error.
    """
    try:
        yield
    except Exception as error:
        if component is None or isinstance(error, X2KitError) or _has_other_cause(error):
            raise
        raise PluginError(_message(component, error)) from error


def _has_other_cause(error: Exception) -> bool:
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's
    text = str(error)
    return memory or text.startswith(WORKER_GONE) or any(sign in text for sign in PARTNER_GONE)


def _message(component: ComponentConfig, error: Exception) -> str:
    name, owner = component.component_name(), owner_of(type(component))
    lines = "".join(traceback.format_exception_only(error)).split()
    of_plugin, hint = "", ""
    if owner is not None:
        of_plugin = f" of plugin {owner.plugin} ({owner.distribution})"
        # a file plugin is named by its path
        named = owner.distribution if os.sep in owner.distribution else owner.plugin
        hint = f"\n  try: x2kit plugins check {named} --component {name}"
    return f"{NOUNS[component.kind]} {name}{of_plugin} raised {' '.join(lines)} at {_place(component, error)}{hint}"


def _place(component: ComponentConfig, error: Exception) -> str:
    """Return file and line of the innermost frame in the component's package, else of the innermost frame."""
    package = type(component).__module__.partition(".")[0]
    frames = list(traceback.walk_tb(error.__traceback__))[1:]  # the first is this module's
    own = [each for each in frames if str(each[0].f_globals.get("__name__")).partition(".")[0] == package]
    frame, line = (own or frames)[-1]
    return f"{frame.f_code.co_filename}:{line}"
