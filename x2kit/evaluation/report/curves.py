"""Draw training curves as SVG, one quantity each. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from x2kit.data.config import Phase
from x2kit.evaluation.report.markup import Markup, join, number, tag

WIDTH, HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 16, 34
_CHARACTER = 6.4
"""Width of a digit in an axis label, in SVG units: 10.5px digits take 5.8 to 6.4 in common fonts."""
_MOST_POINTS = 240

UNITS = {
    "itc": "contrastive, nats",
    "itm": "matching, nats",
    "mlm": "masked language, nats",
    "bbox": "box L1, shares of the side",
    "giou": "1 − generalised IoU",
    "ttc": "contrastive, nats",
    "ttm": "matching, nats",
    "tlm": "masked language, nats",
    "loss": "weighted sum of all",
    "lr": "learning rate",
    "temperature": "of contrastive losses",
    "gradient_norm": "before clipping",
    "samples_per_second": "records",
    "data_wait_share": "share of the time",
}
"""Axis labels of known quantities; losses are those of `x2kit.objectives`."""
_NOT_DRAWN = ("step", "time", "seconds", "validation_seconds")


class Series(NamedTuple):
    """A quantity over steps: x and y have equal length, x ascends."""

    x: list[float]
    y: list[float]


def series_of(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Collect the quantities of metrics.jsonl by name, in order of first appearance."""
    found: dict[str, Series] = {}
    for line in metrics:
        for name, value in line.items():
            if name not in _NOT_DRAWN and isinstance(value, int | float) and math.isfinite(value):
                series = found.setdefault(name, Series([], []))
                series.x.append(float(line["step"]))
                series.y.append(float(value))
    return found


def draw_curves(metrics: Sequence[Mapping[str, Any]], phases: Sequence[Phase] = ()) -> Markup:
    """Draw the quantities of the whole run, then those of each stream in one colour.

    Args:
        metrics: lines of metrics.jsonl.
        phases: of the run; curves of the whole run mark the steps at which losses start or stop.
    """
    series = series_of(metrics)
    if not series:
        return tag("p", "metrics.jsonl is empty: no curves.", class_="note")
    last = max(one.x[-1] for one in series.values())
    zero = [name for name, one in series.items() if not any(one.y)]
    streams: dict[str, list[str]] = {}
    for name in series:
        if name not in zero:
            streams.setdefault(name.rpartition(".")[0], []).append(name)
    changes = loss_changes(phases, last)
    drawn = []
    for place, (stream, names) in enumerate(sorted(streams.items(), key=lambda group: group[0] != "")):
        # Names of validations are SPLIT.TASK.METRIC.
        heading = f"Validation {stream}" if "." in stream else f"Stream {stream}"
        drawn.append(tag("h3", heading if stream else "The whole run"))
        if changes and not stream:
            drawn.append(_list_changes(changes))
        colour = f"var(--series-{place % 5})"
        marks = [] if stream else [change.step for change in changes]
        curves = [draw_curve(name, series[name], last, colour, marks) for name in names]
        drawn.append(tag("div", curves, class_="curves"))
    if zero:
        drawn.append(tag("p", f"Not drawn, always 0: {', '.join(zero)}.", class_="note"))
    return join(drawn)


class Change(NamedTuple):
    """Losses that start or stop: last step before the change, and names."""

    step: int
    started: list[str]
    stopped: list[str]


def loss_changes(phases: Sequence[Phase], last_step: float) -> list[Change]:
    """List the changes between consecutive phases up to the last step."""
    return [
        Change(
            after.start,
            [name for name in after.names if name not in before.names],
            [name for name in before.names if name not in after.names],
        )
        for before, after in pairwise(phases)
        if after.start < last_step
    ]


def _list_changes(changes: Sequence[Change]) -> Markup:
    items = [
        tag(
            "li",
            f"after step {change.step:,}: ",
            "; ".join(filter(None, [_losses(change.started, "start"), _losses(change.stopped, "stop")])),
        )
        for change in changes
    ]
    note = "The total loss jumps where losses start or stop (dashed lines):"
    return tag("div", tag("p", note), tag("ol", items), class_="note")


def _losses(names: Sequence[str], verb: str) -> str:
    return f"{', '.join(names)} {verb}{'s' if len(names) == 1 else ''}" if names else ""


def draw_curve(name: str, series: Series, last_step: float, colour: str, marks: Sequence[int] = ()) -> Markup:
    """Draw a curve with its axes, the last value in the title.

    Args:
        name: as in metrics.jsonl.
        series: at least one point.
        last_step: right end of the x axis, equal for all curves of a run.
        colour: of the line, as CSS.
        marks: steps with a dashed vertical line, numbered from 1.
    """
    points = thin(series)
    short = name.rsplit(".", 1)[-1]
    unit = UNITS.get(short, "")
    bottom, top, ticks = value_axis(series.y)
    plot = _Plot(last_step, bottom, top)
    line = " ".join(
        f"{number(plot.x(x))},{number(plot.y(y))}" for x, y in zip(points.x, points.y, strict=True)
    )
    shape = (
        tag("polyline", points=line, fill="none", stroke=colour, stroke_width="1.8", stroke_linejoin="round")
        if len(points.x) > 1
        else tag("circle", cx=plot.x(points.x[0]), cy=plot.y(points.y[0]), r="3", fill=colour)
    )
    title = tag(
        "figcaption",
        tag("b", short.replace("_", " ")),
        tag("span", f" {unit}", class_="unit") if unit else None,
        tag("span", compact(series.y[-1]), class_="last"),
    )
    label = f"{name}: from {compact(series.y[0])} to {compact(series.y[-1])} at step {series.x[-1]:.0f}"
    drawing = tag(
        "svg",
        [_y_tick(plot, value, ticks) for value in ticks],
        [_x_tick(plot, value) for value in step_ticks(last_step)],
        tag("text", "step", x=WIDTH - _RIGHT, y=HEIGHT - 4, text_anchor="end", class_="axis"),
        [_mark(plot, number, step) for number, step in enumerate(marks, 1)],
        shape,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=label,
    )
    return tag("figure", title, drawing, class_="curve")


def thin(series: Series, most: int = _MOST_POINTS) -> Series:
    """Average neighbouring points to at most `most`; a shorter series is returned unchanged."""
    count = len(series.x)
    if count <= most:
        return series
    edges = [round(place * count / most) for place in range(most + 1)]
    spans = list(pairwise(edges))
    return Series(*([sum(axis[a:b]) / (b - a) for a, b in spans] for axis in series))


def value_axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Compute bottom, top and ticks of the value axis, which includes 0."""
    bottom, top = min(0.0, *values), max(0.0, *values)
    if bottom == top:
        return 0.0, 1.0, [0.0, 1.0]
    step = _round_step((top - bottom) / 4)
    first, last = math.floor(bottom / step + 1e-9), math.ceil(top / step - 1e-9)
    return first * step, last * step, [place * step for place in range(first, last + 1)]


def step_ticks(last: float) -> list[float]:
    """Compute about four round ticks from 0 to the last step."""
    step = max(1.0, _round_step(max(last, 1) / 4))
    return [place * step for place in range(int(last / step + 1e-9) + 1)]


def compact(value: float) -> str:
    """Format with three significant digits: 0.0012, 4.14, 23.5, 1234, 2.9e-05."""
    if value == 0:
        return "0"
    size = abs(value)
    if size < 1e-3:
        return f"{value:.1e}"
    if size >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


class _Plot(NamedTuple):
    """Map steps and values to coordinates of the drawing."""

    last_step: float
    bottom: float
    top: float

    def x(self, step: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * step / max(self.last_step, 1)

    def y(self, value: float) -> float:
        share = (value - self.bottom) / (self.top - self.bottom)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share


def _y_tick(plot: _Plot, value: float, ticks: Sequence[float]) -> Markup:
    height = plot.y(value)
    style = "base" if value == ticks[0] else "grid"
    return join(
        tag("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=height, y2=height, class_=style),
        tag("text", compact(value), x=_LEFT - 6, y=height + 3.5, text_anchor="end", class_="axis"),
    )


def _x_tick(plot: _Plot, step: float) -> Markup:
    across, foot, label = plot.x(step), HEIGHT - _BOTTOM, f"{step:.0f}"
    half = _CHARACTER * len(label) / 2
    return join(
        tag("line", x1=across, x2=across, y1=foot, y2=foot + 4, class_="base"),
        tag("text", label, x=min(across, WIDTH - half), y=foot + 15, text_anchor="middle", class_="axis"),
    )


def _mark(plot: _Plot, place: int, step: int) -> Markup:
    across = plot.x(step)
    return join(
        tag("line", x1=across, x2=across, y1=_TOP, y2=HEIGHT - _BOTTOM, class_="mark"),
        tag("text", str(place), x=across, y=_TOP - 4, text_anchor="middle", class_="axis"),
    )


def _round_step(rough: float) -> float:
    """Round up to 1, 2, 2.5 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
