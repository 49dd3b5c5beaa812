"""TensorBoard event files, read by its own library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from x2kit_reporters import TensorBoard

from x2kit.plugin import RunFacts


def report(folder: Path, *steps: int, done: int = 0, end: bool = True) -> None:
    reporter = TensorBoard().build()
    reporter.start(RunFacts(folder, {}, done, 9), folder)
    for step in steps:
        reporter.log(step, {"loss": step / 10, "images.itc": 1.0})
    if end:
        reporter.end("finished")


def events(folder: Path) -> Any:
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(event.step, round(event.value, 6)) for event in events(folder).Scalars("loss")]


@pytest.mark.conformance(TensorBoard())
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()


def test_values_are_shown_by_step_with_one_section_per_stream(tmp_path: Path) -> None:
    report(tmp_path, 1, 2)
    assert sorted(events(tmp_path).Tags()["scalars"]) == ["images/itc", "loss"]
    assert losses(tmp_path) == [(1, 0.1), (2, 0.2)]


def test_every_step_is_shown_once_after_a_resume(tmp_path: Path) -> None:
    report(tmp_path, 1, 2, 3, 4)
    report(tmp_path, 3, 4, 5, done=2)
    assert losses(tmp_path) == [(step, step / 10) for step in (1, 2, 3, 4, 5)]


def test_a_restarted_run_shows_no_earlier_step(tmp_path: Path) -> None:
    report(tmp_path, 1, 2, 3)
    report(tmp_path, 1)
    assert losses(tmp_path) == [(1, 0.1)]


def test_a_killed_run_loses_no_event(tmp_path: Path) -> None:
    report(tmp_path, 1, 2, end=False)
    assert losses(tmp_path) == [(1, 0.1), (2, 0.2)]
