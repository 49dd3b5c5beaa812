"""Draw the scores of a table as dots with intervals, one line for each language and run. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable

from x2kit.evaluation.comparison.comparing import Comparison, Row, Table
from x2kit.evaluation.comparison.grids import in_per_cent, shown_score
from x2kit.evaluation.report.curves import compact, value_axis
from x2kit.evaluation.report.markup import Markup, tag

COLOURS = ("#1f6feb", "#d2691e", "#2e8b57", "#8a4fbf", "#6b7280")
"""Of the runs in order, repeated."""
_WIDTH, _LEFT, _RIGHT, _TOP = 640, 110, 20, 48
_LINE, _GAP = 14, 8
"""Height of a run's line, and space between languages."""


def draw_table(table: Table, comparison: Comparison) -> Markup:
    """Draw a table as SVG: the axis begins at 0, a tick marks chance, a line is the interval.

    Args:
        table: with rows.
        comparison: has the labels of the runs.
    """
    labels = [one.label for one in comparison.measurements]
    band = _LINE * len(labels) + _GAP
    height = _TOP + band * len(table.rows) + 30
    ends = [
        bound
        for row in table.rows
        for score in row.scores
        if score
        for bound in (score.value, *(score.interval or ()))
    ]
    low, high, ticks = value_axis([*ends, *(row.chance for row in table.rows if row.chance is not None)])
    scale = 100 if in_per_cent(table) else 1

    def x(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low)

    bottom = height - 26
    axis = [
        (
            tag("line", x1=x(value), x2=x(value), y1=_TOP - 6, y2=bottom, stroke="#d0d7de"),
            _text(compact(scale * value), x(value), bottom + 14, "middle"),
        )
        for value in ticks
    ]
    legend = [
        (
            tag("circle", cx=_LEFT + 160 * place, cy=16, r="4", fill=COLOURS[place % len(COLOURS)]),
            _text(label[:24], _LEFT + 160 * place + 9, 20),
        )
        for place, label in enumerate(labels)
    ]
    rows = [_row(row, _TOP + band * place, x, table) for place, row in enumerate(table.rows)]
    name = " ".join(filter(None, [table.task, table.part.replace("_", " "), table.metric]))
    return tag(
        "svg",
        tag("title", name),
        tag("rect", width="100%", height="100%", fill="#ffffff"),
        _text(f"{name if scale == 1 else f'{name}, per cent'}; dotted: chance", 4, 34),
        legend,
        axis,
        rows,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_WIDTH} {height}",
        width=str(_WIDTH),
        height=str(height),
        font_family="sans-serif",
        font_size="11",
        role="img",
    )


def _row(row: Row, top: float, x: Callable[[float], float], table: Table) -> Markup:
    count = len(row.scores)
    shares = in_per_cent(table)
    parts = [_text(row.language, _LEFT - 8, top + _LINE * count / 2 + 4, "end")]
    if row.chance is not None:
        at = x(row.chance)
        parts.append(
            tag(
                "line", x1=at, x2=at, y1=top, y2=top + _LINE * count, stroke="#57606a", stroke_dasharray="2 2"
            )
        )
    for place, score in enumerate(row.scores):
        if score is None:
            continue
        colour, y = COLOURS[place % len(COLOURS)], top + _LINE * (place + 0.5)
        if score.interval is not None:
            low, high = (x(bound) for bound in score.interval)
            parts.append(tag("line", x1=low, x2=high, y1=y, y2=y, stroke=colour, stroke_width="2"))
        dot = tag(
            "circle", tag("title", shown_score(score, shares)), cx=x(score.value), cy=y, r="3.5", fill=colour
        )
        parts.append(dot)
    return tag("g", parts)


def _text(text: str, x: float, y: float, anchor: str = "start") -> Markup:
    return tag("text", text, x=x, y=y, text_anchor=anchor, fill="#24292f")
