"""Options and choices that do not exist are answered with the nearest."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (("train", "good.yaml", "--pluggin", "stubs.py"), "--plugin"),
        (("evaluate", "run", "--pluggin=stubs.py"), "--plugin"),
        (("recipes", "show", "good.yaml", "--pluggin", "stubs.py"), "--plugin"),
        (("plugins", "list", "--pluggin", "stubs.py"), "--plugin"),
        (("plugins", "list", "--kind", "visoin"), "vision"),
        (("plugins", "chek", "stubs.py"), "check"),
        (("data", "chck", "good.yaml"), "check"),
    ],
)
def test_what_is_misspelt_is_answered_with_the_nearest(
    x2kit: Callable[..., object], arguments: tuple[str, ...], nearest: str
) -> None:
    done = x2kit(*arguments)
    assert done.status == 2
    assert done.err.rstrip().endswith(f"; nearest: {nearest}")


def test_what_is_like_nothing_gets_no_advice(x2kit: Callable[..., object]) -> None:
    done = x2kit("train", "good.yaml", "--zzz")
    assert done.err.rstrip().endswith("unrecognized arguments: --zzz")
