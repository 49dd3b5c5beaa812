"""Write a comparison as Markdown, CSV, JSON, drawings and TREC files, and render it in a terminal. Imports no torch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from x2kit.evaluation.comparison.comparing import Comparison, Score, Table
from x2kit.evaluation.comparison.drawing import draw_table
from x2kit.evaluation.comparison.grids import (
    Grid,
    input_grid,
    long_grid,
    method_notes,
    published_grids,
    score_grid,
)
from x2kit.evaluation.comparison.published import PublishedRow
from x2kit.evaluation.comparison.trec import plain, write_trec
from x2kit.io.atomic import atomic_file

FIELDS = (
    "task",
    "part",
    "metric",
    "language",
    "run",
    "value",
    "low",
    "high",
    "items",
    "records",
    "chance",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "p_holm",
    "not_paired",
)
"""Columns of comparison.csv: one line for each run and row of a table."""


def write_comparison(
    comparison: Comparison, published: Sequence[PublishedRow], directory: Path, trec: bool = True
) -> list[Path]:
    """Write comparison.md, comparison.csv, comparison.json, a drawing for each table, and files of TREC in `trec/`.

    Args:
        comparison: of runs.
        published: rows of `beside_published`.
        directory: created if missing.
        trec: whether to write rankings.
    Returns: the written files.
    """
    drawings = {
        f"{plain('.'.join(filter(None, (table.task, table.part, table.metric))))}.svg": draw_table(
            table, comparison
        )
        for table in comparison.tables
        if table.rows
    }
    texts = {
        "comparison.md": markdown(comparison, published, list(drawings)),
        "comparison.csv": csv_text(comparison),
        "comparison.json": json.dumps(as_json(comparison, published), ensure_ascii=False, indent=2) + "\n",
        **drawings,
    }
    written = []
    for name, text in texts.items():
        with atomic_file(directory / name) as partial:
            partial.write_text(text, encoding="utf-8", newline="")
        written.append(directory / name)
    if trec:
        for one in comparison.measurements:
            written += write_trec(one, directory / "trec")
    return written


def grids(
    comparison: Comparison,
    published: Sequence[PublishedRow],
    lay_out: Callable[[Table, Comparison], Grid] = score_grid,
) -> Iterator[Grid]:
    """Yield all tables: scores as `lay_out` lays them out, published numbers, inputs that differ."""
    labels = [one.label for one in comparison.measurements]
    for table in comparison.tables:
        if table.rows:
            yield lay_out(table, comparison)
    yield from published_grids(published, labels)
    if len(labels) > 1:
        yield input_grid(comparison.inputs, labels)


def markdown(
    comparison: Comparison, published: Sequence[PublishedRow] = (), drawings: Sequence[str] = ()
) -> str:
    """Format a comparison as Markdown."""
    labels = ", ".join(one.label for one in comparison.measurements)
    lines = [f"# {'Comparison of ' if len(comparison.measurements) > 1 else ''}{labels}", ""]
    lines += [f"- {one.label}: `{one.file}`" for one in comparison.measurements]
    lines += ["", *(line for note in method_notes(comparison) for line in (note, ""))]
    shown = iter(drawings)
    for place, grid in enumerate(grids(comparison, published)):
        lines += [f"## {_cell(grid.title)}", ""]
        if grid.rows:
            align = ["---", *(["---"] if grid.texts else ["---:"]) * (len(grid.head) - 1)]
            lines += [_line(grid.head), _line(align), *(_line(row) for row in grid.rows), ""]
        lines += [line for note in grid.notes for line in (_cell(note), "")]
        if place < len(drawings) and (name := next(shown, None)):
            lines += [f"![{_cell(grid.title)}]({name})", ""]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """Escape what Markdown would read as a column or a tag."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def csv_text(comparison: Comparison) -> str:
    """Format the scores as CSV, fractions of 1 and not per cent."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in flat_rows(comparison):
        writer.writerow({name: row.get(name) for name in FIELDS})
    return text.getvalue()


def flat_rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield task, part, metric, language, run, score and difference, one run at a time."""
    for table in comparison.tables:
        for row in table.rows:
            for one, score, change in zip(comparison.measurements, row.scores, row.changes, strict=True):
                found: dict[str, Any] = {
                    "task": table.task,
                    "part": table.part,
                    "metric": table.metric,
                    "language": row.language,
                    "run": one.label,
                    **_score(score),
                    "chance": row.chance,
                    "candidates": list(row.candidates),
                    "not_paired": table.unpaired.get(one.label),
                }
                if change is not None:
                    found |= {
                        "difference": change.value,
                        "difference_low": change.interval.low,
                        "difference_high": change.interval.high,
                        "p": change.p,
                        "p_holm": change.p_holm,
                    }
                yield found


def _score(score: Score | None) -> dict[str, Any]:
    if score is None:
        return {"value": None}
    low, high = score.interval or (None, None)
    return {"value": score.value, "low": low, "high": high, "items": score.items, "records": score.records}


def as_json(comparison: Comparison, published: Sequence[PublishedRow]) -> dict[str, Any]:
    """Return a comparison as plain values."""
    settings = comparison.settings
    return {
        "runs": [
            {
                "label": one.label,
                "result": str(one.file),
                "checkpoint": one.result["checkpoint"],
                "split": one.result.get("split"),
                "data": {task: one.data(task) for task in one.tasks},
            }
            for one in comparison.measurements
        ],
        "confidence": settings.confidence,
        "resamples": settings.samples,
        "permutations": {
            ".".join(filter(None, (table.task, table.part, table.metric))): table.permutations
            for table in comparison.tables
        },
        "seed": settings.seed,
        "tests": comparison.tests,
        "scores": list(flat_rows(comparison)),
        "published": [
            {**row._asdict(), "reached": [one._asdict() for one in row.reached]} for row in published
        ],
        "inputs": [one._asdict() for one in comparison.inputs],
    }


def render(comparison: Comparison, published: Sequence[PublishedRow] = ()) -> RenderableType:
    """Render a comparison in a terminal."""
    parts: list[RenderableType] = []
    for grid in grids(comparison, published, long_grid):
        parts.append(Text(f"\n{grid.title}", style="bold"))
        if grid.rows:
            parts.append(_rich(grid))
        parts += [Text(note, style="dim") for note in grid.notes]
    parts += [Text(f"\n{note}", style="dim") for note in method_notes(comparison)]
    return Group(*parts)


def _rich(grid: Grid) -> RichTable:
    table = RichTable(box=SIMPLE_HEAD, show_edge=False, padding=0, pad_edge=False)
    for place, title in enumerate(grid.head):
        left = place == 0 or grid.texts or title == "run"
        table.add_column(title, justify="left" if left else "right", overflow="fold")
    for row in grid.rows:
        table.add_row(*row)
    return table
