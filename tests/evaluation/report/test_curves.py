"""Curves from metrics."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from tests.data.stubs import stream
from x2kit.data.config import DataConfig, loss_phases
from x2kit.evaluation.report.curves import (
    HEIGHT,
    WIDTH,
    Change,
    Series,
    compact,
    draw_curve,
    draw_curves,
    loss_changes,
    series_of,
    step_ticks,
    thin,
    value_axis,
)

METRICS = [
    {"step": 10, "time": 5.0, "loss": 4.0, "lr": 1e-3, "scenes.itc": 4.0},
    {"step": 20, "time": 9.0, "loss": 3.0, "lr": 5e-4, "scenes.itc": 2.0, "texts.ttc": 1.0},
]


def test_each_quantity_is_a_series_from_its_first_step() -> None:
    series = series_of(METRICS)
    assert list(series) == ["loss", "lr", "scenes.itc", "texts.ttc"]
    assert series["loss"] == Series([10, 20], [4.0, 3.0])
    assert series["texts.ttc"] == Series([20], [1.0])


def test_values_that_are_not_numbers_are_omitted() -> None:
    series = series_of([{"step": 1, "a": float("nan"), "b": "text"}, {"step": 2, "a": 1.0}])
    assert series == {"a": Series([2], [1.0])}


def test_every_quantity_is_drawn_under_its_stream() -> None:
    drawn = draw_curves(METRICS)
    assert re.findall(r"<h3>(.*?)</h3>", drawn) == ["The whole run", "Stream scenes", "Stream texts"]
    assert re.findall(r'aria-label="([\w.]+):', drawn) == ["loss", "lr", "scenes.itc", "texts.ttc"]


def test_validations_are_no_stream() -> None:
    line = {"step": 20, "val.retrieval.mean_recall": 0.5, "validation_seconds": 3.0}
    drawn = draw_curves([*METRICS, line])
    assert re.findall(r"<h3>(.*?)</h3>", drawn)[-1] == "Validation val.retrieval"
    assert "validation_seconds" not in drawn


def test_without_metrics_there_is_a_note() -> None:
    assert "no curve" in draw_curves([])


def test_a_curve_falls_where_its_values_fall_and_stays_in_its_drawing() -> None:
    drawn = draw_curve("loss", Series([0, 50, 100], [9.0, 5.0, 1.0]), 100, "red")
    points = re.search(r'points="(.*?)"', drawn)
    assert points is not None
    places = [tuple(map(float, point.split(","))) for point in points[1].split()]
    assert all(left[0] < right[0] and left[1] < right[1] for left, right in pairwise(places))  # y points down
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    assert places[-1][0] == pytest.approx(WIDTH - 10)


def test_a_single_point_is_a_circle() -> None:
    assert "<circle" in draw_curve("loss", Series([5], [1.0]), 10, "red")


def test_thinning_keeps_the_mean_and_the_number_of_points() -> None:
    series = Series([float(step) for step in range(1001)], [float(step % 7) for step in range(1001)])
    thinned = thin(series, 100)
    assert len(thinned.x) == len(thinned.y) == 100
    assert all(left < right for left, right in pairwise(thinned.x))
    assert sum(thinned.y) / 100 == pytest.approx(sum(series.y) / 1001, rel=0.01)
    assert thin(series, 1001) is series


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.9, 0.2], (0, 4, [0, 1, 2, 3, 4])),
        ([7.0], (0, 8, [0, 2, 4, 6, 8])),
        ([-1.0, 1.0], (-1, 1, [-1, -0.5, 0, 0.5, 1])),
        ([0.0, 0.0], (0, 1, [0, 1])),
    ],
)
def test_the_value_axis_holds_zero_and_all_values_in_round_steps(
    values: list[float], expected: tuple[float, float, list[float]]
) -> None:
    bottom, top, ticks = value_axis(values)
    assert (bottom, top) == pytest.approx(expected[:2])
    assert ticks == pytest.approx(expected[2])


def test_the_step_axis_has_whole_steps_up_to_the_last() -> None:
    assert step_ticks(1000) == [0, 250, 500, 750, 1000]
    assert step_ticks(3) == [0, 1, 2, 3]
    assert step_ticks(1) == [0, 1]


def test_numbers_are_short() -> None:
    shown = [compact(value) for value in (0, 0.00002934, 0.03412, 4.1407, 23.508, 1234.5)]
    assert shown == ["0", "2.9e-05", "0.0341", "4.14", "23.5", "1234"]


@pytest.mark.parametrize("last", [1, 20, 1000, 1100, 200_000, 1_000_000])
@pytest.mark.parametrize("value", [1e-5, 0.0123, 0.9, 99_999.0])
def test_no_axis_label_is_clipped(last: int, value: float) -> None:
    drawn = draw_curve("loss", Series([0, last], [value, value / 2]), last, "red")
    labels = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="(\w+)" class="axis">(.*?)</text>', drawn)
    assert len(labels) > 4
    for x, anchor, text in labels:
        width = 6.4 * len(text)  # a wide font's digits at 10.5px
        left = float(x) - {"middle": width / 2, "end": width}[anchor]
        assert left >= 0, (text, left)
        assert left + width <= WIDTH + 0.05, (text, left + width)


def test_a_quantity_that_is_always_zero_is_listed_only() -> None:
    drawn = draw_curves(
        [{"step": step, "loss": 1.0, "bad_records": 0, "skipped": step - 1} for step in (1, 2)]
    )
    assert re.findall(r'aria-label="([\w.]+):', drawn) == ["loss", "skipped"]
    assert "bad_records" in drawn


def test_steps_at_which_losses_start_or_stop_are_marked_in_the_curves_of_the_whole_run() -> None:
    losses = {"itm": {"start": 0.7}, "mlm": {"start": 0.3, "stop": 0.5}}
    phases = loss_phases(DataConfig(streams={"scenes": stream("ImageText", losses=losses)}), 100)
    assert loss_changes(phases, 60) == [
        Change(30, ["scenes.mlm"], []),
        Change(50, [], ["scenes.mlm"]),
    ]
    drawn = draw_curves([{"step": step, "loss": 1.0, "scenes.itc": 1.0} for step in (1, 100)], phases)
    whole, of_stream = drawn.split("Stream scenes")
    assert whole.count('class="mark"') == 3
    assert of_stream.count('class="mark"') == 0
    assert re.findall(r"<li>(.*?)</li>", whole) == [
        "after step 30: scenes.mlm starts",
        "after step 50: scenes.mlm stops",
        "after step 70: scenes.itm starts",
    ]
