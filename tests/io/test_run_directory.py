"""What training leaves in a run directory."""

from __future__ import annotations

from pathlib import Path

from x2kit.io.run_directory import METRICS, read_metrics


def test_metrics_are_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.0}\n')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.0}]


def test_a_last_line_that_a_killed_process_left_is_dropped(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.5}]


def test_a_directory_without_metrics_has_none(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
