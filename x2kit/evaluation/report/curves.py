"""Training curves as small SVG drawings, one quantity each. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from x2kit.evaluation.report.markup import Markup, join, number, tag

WIDTH, HEIGHT = 320, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 12, 34
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
    "temperature": "of the contrastive loss",
    "gradient_norm": "before clipping",
    "samples_per_second": "records a second",
    "data_wait_share": "share of the time",
}
"""What the axis of a known quantity says; losses are those of `x2kit.objectives`."""
_NOT_DRAWN = ("step", "time")


class Series(NamedTuple):
    """One quantity over the steps: x and y are of equal length, x ascends."""

    x: list[float]
    y: list[float]


def series_of(metrics: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Every quantity of metrics.jsonl by name, in the order in which it first appears."""
    found: dict[str, Series] = {}
    for line in metrics:
        for name, value in line.items():
            if name not in _NOT_DRAWN and isinstance(value, int | float) and math.isfinite(value):
                series = found.setdefault(name, Series([], []))
                series.x.append(float(line["step"]))
                series.y.append(float(value))
    return found


def draw_curves(metrics: Sequence[Mapping[str, Any]]) -> Markup:
    """All curves: what is of the whole run, then the losses of each stream, in a colour of its own."""
    series = series_of(metrics)
    if not series:
        return tag("p", "metrics.jsonl holds no line, so there is no curve to draw.", class_="note")
    last = max(one.x[-1] for one in series.values())
    streams: dict[str, list[str]] = {}
    for name in series:
        if "." in name:
            streams.setdefault(name.rsplit(".", 1)[0], []).append(name)
    whole = [name for name in series if "." not in name]
    groups = [("The whole run", whole)] if whole else []
    groups += [(f"Stream {stream}", names) for stream, names in streams.items()]
    drawn = []
    for place, (heading, names) in enumerate(groups):
        drawn.append(tag("h3", heading))
        colour = f"var(--series-{place % 5})"
        drawn.append(
            tag("div", [draw_curve(name, series[name], last, colour) for name in names], class_="curves")
        )
    return join(drawn)


def draw_curve(name: str, series: Series, last_step: float, colour: str) -> Markup:
    """One curve with its axes, its last value in the title.

    Args:
        name: as in metrics.jsonl.
        series: at least one point.
        last_step: right end of the x axis, the same for all curves of a run.
        colour: of the line, as CSS.
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
        shape,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=label,
    )
    return tag("figure", title, drawing, class_="curve")


def thin(series: Series, most: int = _MOST_POINTS) -> Series:
    """At most so many points: means of equally many neighbours each. A short series stays as it is."""
    count = len(series.x)
    if count <= most:
        return series
    edges = [round(place * count / most) for place in range(most + 1)]
    spans = list(pairwise(edges))
    return Series(*([sum(axis[a:b]) / (b - a) for a, b in spans] for axis in series))


def value_axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Bottom, top and ticks of the value axis. It starts at 0, so that heights can be compared."""
    bottom, top = min(0.0, *values), max(0.0, *values)
    if bottom == top:
        return 0.0, 1.0, [0.0, 1.0]
    step = _round_step((top - bottom) / 4)
    first, last = math.floor(bottom / step + 1e-9), math.ceil(top / step - 1e-9)
    return first * step, last * step, [place * step for place in range(first, last + 1)]


def step_ticks(last: float) -> list[float]:
    """Round steps from 0 to the last, about four."""
    step = max(1.0, _round_step(max(last, 1) / 4))
    return [place * step for place in range(int(last / step + 1e-9) + 1)]


def compact(value: float) -> str:
    """Three digits that count: 0.0012, 4.14, 23.5, 1234, 2.9e-05."""
    if value == 0:
        return "0"
    size = abs(value)
    if size < 1e-3:
        return f"{value:.1e}"
    if size >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


class _Plot(NamedTuple):
    """Where values lie in the drawing."""

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
    across, foot = plot.x(step), HEIGHT - _BOTTOM
    return join(
        tag("line", x1=across, x2=across, y1=foot, y2=foot + 4, class_="base"),
        tag("text", f"{step:.0f}", x=across, y=foot + 15, text_anchor="middle", class_="axis"),
    )


def _round_step(rough: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))
