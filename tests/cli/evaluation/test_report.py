from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]


def test_the_report_is_written_and_its_path_printed(x2kit: Run, calls: list[tuple[Any, ...]]) -> None:
    x2kit("train", "good.yaml", "--run-dir", "run")
    assert x2kit("report", "run") == (0, "run/report.html\n", "")
    _, recipe, plugins, directory = calls[-1]
    assert recipe == calls[0][1]
    assert plugins.registry.get("task", "Rank")
    assert directory == Path("run")


def test_a_directory_without_a_run_is_refused(x2kit: Run, calls: list[tuple[Any, ...]]) -> None:
    done = x2kit("report", "absent")
    assert done.status == 2
    assert done.err.startswith("absent: no such directory")
    assert calls == []
