"""Settings of streams: what is derived from them, and what cannot be."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from x2kit_objectives import SigmoidContrastive

from tests.data.stubs import stream
from x2kit.data.config import LossConfig


@pytest.mark.parametrize(
    ("start", "stop", "on"), [(0, 1, "1111111111"), (0.3, 1, "0001111111"), (0.2, 0.5, "0011100000")]
)
def test_losses_are_on_from_start_to_before_stop(start: float, stop: float, on: str) -> None:
    loss = LossConfig(start=start, stop=stop)
    assert "".join(str(int(loss.on(step, 10))) for step in range(10)) == on


def test_a_loss_or_stream_of_weight_zero_is_never_on() -> None:
    assert stream("text", losses={"mlm": 0}).losses_on(0, 10) == ()
    assert stream("text", weight=0).losses_on(0, 10) == ()
    assert stream("image-text", losses={"itm": {"start": 0.5}}).losses_on(0, 10) == ("itc", "mlm")


def test_regions_draw_as_many_records_as_the_paper_for_its_rows() -> None:
    assert stream("region-text", batch_size=128).records_a_step == 50
    assert stream("region-text", batch_size=128, block=4).records_a_step == 52
    assert stream("region-text", batch_size=128, max_images=30).records_a_step == 30
    assert stream("image-text", batch_size=128).records_a_step == 128


def test_blocks_must_fill_a_step() -> None:
    with pytest.raises(ValidationError, match="64 records a step cannot be blocks of 3"):
        stream("image-text", batch_size=64, block=3)
    stream("region-text", batch_size=64, images_from="images", block=3)  # the other stream's blocks count


def test_equal_images_are_no_positives_where_there_are_none() -> None:
    with pytest.raises(ValidationError, match="a parallel-text stream has no images"):
        stream("parallel-text", positives="image")


@pytest.mark.parametrize("name", ["images_held", "rows_over_limit", "padding", "itm_positive_accuracy"])
def test_an_objective_may_not_take_the_name_of_a_logged_value(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is logged of every such stream already"):
        stream("image-text", objectives={name: SigmoidContrastive()})
