"""Conformance kit: check that a component keeps its contract, driven by what it declares.

In the tests of a plugin:

    import pytest
    from my_plugin import MyViT

    @pytest.mark.conformance(MyViT(width=16, depth=1))
    def test_it_keeps_the_contract(conformance):
        conformance()

runs every check of the component's kind as a test of its own, on the CPU; use small settings.
Without pytest: `check_vision(MyViT(width=16))` raises AssertionError at the first check that fails.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from x2kit.testing.conformance import (
        Check,
        Unchecked,
        check_fusion,
        check_head,
        check_index,
        check_objective,
        check_optimizer,
        check_reporter,
        check_source,
        check_task,
        check_text,
        check_vision,
        checks,
    )

__all__ = [
    "Check",
    "Unchecked",
    "check_fusion",
    "check_head",
    "check_index",
    "check_objective",
    "check_optimizer",
    "check_reporter",
    "check_source",
    "check_task",
    "check_text",
    "check_vision",
    "checks",
]


def __getattr__(name: str) -> Any:
    if name in __all__:  # the checks need torch, and pytest always imports this package
        return getattr(import_module("x2kit.testing.conformance"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
