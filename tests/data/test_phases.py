"""Spans of a run in which the same losses are on."""

from __future__ import annotations

import pytest

from tests.data.stubs import stream
from x2kit.data.config import DataConfig, loss_phases

DATA = DataConfig(
    streams={
        "scenes": stream("image-text", losses={"itm": {"start": 0.7}, "mlm": {"start": 0.3, "stop": 0.5}}),
        "regions": stream("region-text", losses={"itm": 0, "mlm": 0, "bbox": {"start": 0.3}}),
    }
)


@pytest.mark.parametrize("steps", [1, 7, 10, 1100])
def test_every_step_is_in_a_phase_with_the_losses_that_are_on_at_it(steps: int) -> None:
    found = {step: phase.losses for phase in loss_phases(DATA, steps) for step in range(*phase[:2])}
    expected = {
        step: {name: one.losses_on(step, steps) for name, one in DATA.streams.items()}
        for step in range(steps)
    }
    assert found == expected
    assert list(found) == list(range(steps))


def test_neighbouring_phases_differ() -> None:
    phases = loss_phases(DATA, 100)
    assert [(phase.start, phase.stop) for phase in phases] == [(0, 30), (30, 50), (50, 70), (70, 100)]
    assert phases[0].names == ("scenes.itc", "regions.itc", "regions.giou")
    assert phases[1].names == ("scenes.itc", "scenes.mlm", "regions.itc", "regions.bbox", "regions.giou")


def test_losses_that_are_on_throughout_make_one_phase() -> None:
    assert len(loss_phases(DataConfig(streams={"texts": stream("text")}), 50)) == 1
