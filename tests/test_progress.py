from __future__ import annotations

import io

from x2kit.terminal import PlainConsole, TaskProgress


def shown(terminal: bool, times: list[float]) -> str:
    out = io.StringIO()
    console = PlainConsole(file=out, force_terminal=terminal, width=80, color_system=None)
    clock = iter(times)
    with TaskProgress(console, lambda: next(clock)) as progress:
        for done in range(1, len(times)):
            progress(f"matching, l{done}", done, 9)
    return out.getvalue()


def test_a_file_gets_a_line_every_fifteen_seconds() -> None:
    lines = shown(False, [0, 1, 16, 20, 30, 32]).splitlines()
    assert lines == ["matching, l2: 2/9", "matching, l5: 5/9"]


def test_a_short_measurement_leaves_no_line_in_a_file() -> None:
    assert shown(False, [0, 1, 2]) == ""


def test_a_terminal_shows_what_is_measured_now() -> None:
    assert "matching, l2" in shown(True, [0, 1, 2])
