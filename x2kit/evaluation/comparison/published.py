"""Set results beside published numbers, the expectations of a recipe. Imports no torch.

A published number is taken as exact: its own interval is not published. So the interval of a difference is that of the
reached score, moved by the published one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from x2kit.evaluation.comparison.comparing import Settings, columns_of
from x2kit.evaluation.comparison.measurements import Measurement
from x2kit.evaluation.comparison.resampling import Interval, bootstrap
from x2kit.evaluation.expectations import flat_numbers, incomparable, number_at


class Reached(NamedTuple):
    """What one run reached.

    Attributes:
        value: None if its result has no such number.
        difference: reached minus published; None if they cannot be compared.
        interval: of the difference; None without values of single items.
        reason: why they cannot be compared; empty if they can.
    """

    value: float | None
    difference: float | None = None
    interval: Interval | None = None
    reason: str = ""


class PublishedRow(NamedTuple):
    """A published number and what each run reached.

    Attributes:
        name, model, source, note: of the expectation.
        task, path: of the number.
        value: published.
        reached: of each run.
    """

    name: str
    model: str
    source: str
    note: str
    task: str
    path: str
    value: float
    reached: list[Reached]


def beside_published(
    measurements: Sequence[Measurement],
    expectations: Mapping[str, Mapping[str, Any]],
    settings: Settings,
) -> list[PublishedRow]:
    """Set the results of runs beside published numbers.

    Args:
        measurements: of the runs.
        expectations: by name, plain values of `evaluation.expectations`.
        settings: of resampling.
    """
    return [
        PublishedRow(
            name,
            one["model"],
            one["source"],
            one.get("note") or "",
            one["task"],
            path,
            value,
            [_reached(measurement, one, path, value, settings) for measurement in measurements],
        )
        for name, one in expectations.items()
        for path, value in flat_numbers(one["values"])
    ]


def _reached(
    one: Measurement, expectation: Mapping[str, Any], path: str, published: float, settings: Settings
) -> Reached:
    task = expectation["task"]
    if task not in one.tasks:
        return Reached(None, reason=f"task {task} was not measured")
    value = number_at(one.numbers(task), path)
    if value is None:
        return Reached(None, reason="the result has no such number")
    if reason := incomparable(one.result, one.data(task), expectation):
        return Reached(value, reason=reason)
    return Reached(value, value - published, _interval(one, task, path, published, settings))


def _interval(
    one: Measurement, task: str, path: str, published: float, settings: Settings
) -> Interval | None:
    prefix, _, metric = path.rpartition(".")
    for part in one.items(task) or []:
        if part.path == prefix and metric in part.values:
            columns = columns_of({part.language: part}, [part.language], metric)
            ((found,),) = bootstrap(
                [columns], np.ones((1, 1)), settings.samples, settings.seed, settings.confidence
            )
            return Interval(found.low - published, found.high - published)
    return None
