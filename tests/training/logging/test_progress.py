"""The time left, estimated from the cost of steps."""

from __future__ import annotations

import pytest

from x2kit.training.logging.progress import StepProgress


def test_equal_steps_give_a_proportional_time_left() -> None:
    assert StepProgress(100, 0).seconds_left(25, 10.0) == pytest.approx(30)
    assert StepProgress(100, 50).seconds_left(75, 10.0) == pytest.approx(10)


@pytest.mark.parametrize(
    ("start", "done"), [(0, 10), (0, 30), (0, 50), (0, 80), (40, 60), (70, 80), (90, 99)]
)
def test_the_time_left_weighs_steps_by_cost(start: int, done: int) -> None:
    cost = [1.0] * 30 + [2.0] * 40 + [4.0] * 30
    progress = StepProgress(100, start)
    progress.expect([(30, 1.0), (70, 2.0), (100, 4.0)])
    assert progress.seconds_left(done, 0.5 * sum(cost[start:done])) == pytest.approx(0.5 * sum(cost[done:]))


def test_nothing_is_left_at_the_end() -> None:
    assert StepProgress(100, 0).seconds_left(100, 10.0) == 0
