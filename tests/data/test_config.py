"""Settings of streams: derived values, invalid combinations, and phases of a run."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from x2kit_objectives import SigmoidContrastive

from tests.data.stubs import stream
from x2kit.data.config import DataConfig, LossConfig, loss_phases


@pytest.mark.parametrize(
    ("start", "stop", "on"), [(0, 1, "1111111111"), (0.3, 1, "0001111111"), (0.2, 0.5, "0011100000")]
)
def test_losses_are_on_from_start_to_before_stop(start: float, stop: float, on: str) -> None:
    loss = LossConfig(start=start, stop=stop)
    assert "".join(str(int(loss.on(step, 10))) for step in range(10)) == on


def test_a_loss_or_stream_of_weight_zero_is_off() -> None:
    assert stream("PlainText", losses={"mlm": 0}).losses_on(0, 10) == ()
    assert stream("PlainText", weight=0).losses_on(0, 10) == ()
    assert stream("ImageText", losses={"itm": {"start": 0.5}}).losses_on(0, 10) == ("itc", "mlm")


def test_region_streams_draw_records_in_the_proportion_of_the_paper() -> None:
    assert stream("RegionText", batch_size=128).records_a_step == 50
    assert stream("RegionText", batch_size=128, block=4).records_a_step == 52
    assert stream("RegionText", batch_size=128, max_images=30).records_a_step == 30
    assert stream("RegionText", batch_size=10**400).records_a_step == 10**400 * 50 // 128
    assert stream("ImageText", batch_size=128).records_a_step == 128


def test_the_block_must_divide_the_records_per_step() -> None:
    with pytest.raises(ValidationError, match="64 records per step, found 3"):
        stream("ImageText", batch_size=64, block=3)
    stream("RegionText", batch_size=64, images_from="images", block=3)  # the blocks of the other stream apply


def test_equal_images_are_no_positives_in_a_stream_without_images() -> None:
    with pytest.raises(ValidationError, match="ParallelText has no images"):
        stream("ParallelText", positives="image")


@pytest.mark.parametrize("name", ["images_held", "rows_over_limit", "padding", "itm_positive_accuracy"])
def test_an_objective_may_not_have_the_name_of_a_logged_value(name: str) -> None:
    with pytest.raises(ValueError, match=f"objectives: {name} "):
        stream("ImageText", objectives={name: SigmoidContrastive()})


PHASED = DataConfig(
    streams={
        "scenes": stream("ImageText", losses={"itm": {"start": 0.7}, "mlm": {"start": 0.3, "stop": 0.5}}),
        "regions": stream("RegionText", losses={"itm": 0, "mlm": 0, "bbox": {"start": 0.3}}),
    }
)


@pytest.mark.parametrize("steps", [1, 7, 10, 1100])
def test_every_step_is_in_a_phase_with_its_losses(steps: int) -> None:
    found = {step: phase.losses for phase in loss_phases(PHASED, steps) for step in range(*phase[:2])}
    expected = {
        step: {name: one.losses_on(step, steps) for name, one in PHASED.streams.items()}
        for step in range(steps)
    }
    assert found == expected
    assert list(found) == list(range(steps))


def test_neighbouring_phases_differ() -> None:
    phases = loss_phases(PHASED, 100)
    assert [(phase.start, phase.stop) for phase in phases] == [(0, 30), (30, 50), (50, 70), (70, 100)]
    assert phases[0].names == ("scenes.itc", "regions.itc", "regions.giou")
    assert phases[1].names == ("scenes.itc", "scenes.mlm", "regions.itc", "regions.bbox", "regions.giou")


def test_losses_that_never_change_give_one_phase() -> None:
    assert len(loss_phases(DataConfig(streams={"texts": stream("PlainText")}), 50)) == 1
