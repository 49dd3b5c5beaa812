"""Lay a comparison out as grids of texts, for the terminal, Markdown and CSV. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from x2kit.evaluation.comparison.comparing import Change, Comparison, Row, Score, Table
from x2kit.evaluation.comparison.inputs import ABSENT, Differing
from x2kit.evaluation.comparison.published import PublishedRow

LONGEST = 60
"""Characters of a value of an input; longer ones are cut."""


class Grid(NamedTuple):
    """A table of texts; the first column is a name, others are numbers unless `texts`."""

    title: str
    head: list[str]
    rows: list[list[str]]
    notes: list[str]
    texts: bool = False


def score_grid(table: Table, comparison: Comparison) -> Grid:
    """Lay out one metric: a row for each language, a column for each run, difference and p-values."""
    labels = [one.label for one in comparison.measurements]
    shares = in_per_cent(table)
    changed = [
        place for place in range(1, len(labels)) if any(row.changes[place] is not None for row in table.rows)
    ]
    head = ["language", *labels]
    for place in changed:
        head += [f"{labels[place]} − {labels[0]}", "p", "p (Holm)"]
    known = any(row.chance is not None for row in table.rows)
    head += [*(["chance"] if known else []), "items", "records"]
    if any(row.candidates for row in table.rows):
        head.append("candidates")
    rows = [_cells(row, changed, shares, known, len(head)) for row in table.rows]
    name = " ".join(filter(None, [table.task, table.part.replace("_", " "), table.metric]))
    return Grid(f"{name}{', per cent' if shares else ''}", head, rows, list(_notes(table, labels[0])))


def long_grid(table: Table, comparison: Comparison) -> Grid:
    """Lay out one metric for a terminal: a line for each language and run; chance and counts in a note if equal."""
    wide = score_grid(table, comparison)
    labels = [one.label for one in comparison.measurements]
    shares, paired = in_per_cent(table), any(any(row.changes) for row in table.rows)
    first = wide.head.index("items") - (1 if "chance" in wide.head else 0)
    extra = {name: [row[first + place] for row in wide.rows] for place, name in enumerate(wide.head[first:])}
    single = [place for place, row in enumerate(table.rows) if len(row.languages) == 1]
    equal = {
        name: cells[single[0]]
        for name, cells in extra.items()
        if len({cells[place] for place in single}) == 1
    }
    kept = [name for name in extra if name not in equal]
    head = ["language", *(["run"] if len(labels) > 1 else []), "score"]
    head += [f"− {labels[0]}", "p", "p (Holm)"] if paired else []
    rows = []
    for place, row in enumerate(table.rows):
        for number, (label, score, change) in enumerate(zip(labels, row.scores, row.changes, strict=True)):
            cells = ["" if number else row.language, *([label] if len(labels) > 1 else [])]
            cells.append(shown_score(score, shares))
            if paired:
                cells += ["", "", ""] if change is None else _change(change, shares)
            rows.append(cells + ["" if number else extra[name][place] for name in kept])
    notes = (
        [", ".join(f"{name} {value}" for name, value in equal.items()) + " in each language"] if equal else []
    )
    return Grid(wide.title, [*head, *kept], rows, [*notes, *wide.notes])


def _cells(row: Row, changed: Sequence[int], shares: bool, known: bool, width: int) -> list[str]:
    cells = [row.language if len(row.languages) == 1 else f"{row.language} ({len(row.languages)})"]
    cells += [shown_score(score, shares) for score in row.scores]
    for place in changed:
        change = row.changes[place]
        cells += ["–"] * 3 if change is None else _change(change, shares)
    if known:
        cells.append("–" if row.chance is None else _number(row.chance, shares))
    sizes = [score for score in row.scores if score is not None and score.items]
    cells += [_span(score.items for score in sizes), _span(score.records for score in sizes)]
    if len(cells) < width:
        cells.append(_span(row.candidates))
    return cells


def _change(change: Change, shares: bool) -> list[str]:
    low, high = (_signed(bound, shares) for bound in change.interval)
    return [f"{_signed(change.value, shares)} [{low}, {high}]", f"{change.p:.4f}", f"{change.p_holm:.4f}"]


def shown_score(score: Score | None, shares: bool) -> str:
    """Format a score with its interval."""
    if score is None:
        return "–"
    value = _number(score.value, shares)
    if score.interval is None:
        return value
    return f"{value} [{_number(score.interval.low, shares)}, {_number(score.interval.high, shares)}]"


def in_per_cent(table: Table) -> bool:
    """Whether the values are shares of 1."""
    return all(score is None or 0 <= score.value <= 1 for row in table.rows for score in row.scores)


def _number(value: float, shares: bool) -> str:
    if not shares:
        return f"{value:.3f}"
    return f"{100 * value:.2f}" if 0 < value < 0.01 else f"{100 * value:.1f}"


def _signed(value: float, shares: bool) -> str:
    return f"{100 * value:+.1f}" if shares else f"{value:+.3f}"


def _span(values: Any) -> str:
    found = sorted(set(values))
    return "–" if not found else f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def _notes(table: Table, first: str) -> Iterator[str]:
    for label, reason in table.unpaired.items():
        yield f"{label} is not paired with {first}: {reason}" if label != first else f"{label}: {reason}"
    if table.left_out:
        yield f"without {', '.join(table.left_out)}, which not all runs have"


def method_notes(comparison: Comparison) -> list[str]:
    """Say what the intervals and tests are, and how many tests were made."""
    settings, tables = comparison.settings, comparison.tables
    level = f"{100 * settings.confidence:g} %"
    notes = [
        f"Intervals of {level}: percentile bootstrap over records, {settings.samples:,} resamples, seed "
        f"{settings.seed}; exact (Clopper-Pearson) where all items are hits or all are misses. Items of a record, its "
        "captions and its translations, are drawn together."
    ]
    if comparison.tests:
        counts = sorted({(table.permutations, table.exact) for table in tables if table.permutations})
        tried = ", ".join(
            f"all {count:,} permutations" if exact else f"{count:,} random permutations, seed {settings.seed}"
            for count, exact in counts
        )
        notes.append(
            f"p: paired randomisation test by record, two-sided, {tried}. {comparison.tests} tests were made; p (Holm) "
            "is adjusted for all of them, p is not."
        )
        notes.append(
            "A small p says that these weights differ on records like these. It does not say that another training run "
            "with another seed would: compare several seeds for that."
        )
    return notes


def input_grid(inputs: Sequence[Differing], labels: Sequence[str]) -> Grid:
    """Lay out the inputs that differ."""
    rows = [[f"{one.kind}: {one.key}", *(_shown(value) for value in one.values)] for one in inputs]
    notes = [] if inputs or len(labels) == 1 else ["no input differs"]
    return Grid("Inputs that differ", ["input", *labels], rows, notes, texts=True)


def _shown(value: Any) -> str:
    text = ABSENT if value is ABSENT else "–" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def published_grids(rows: Sequence[PublishedRow], labels: Sequence[str]) -> Iterator[Grid]:
    """Lay out published numbers, one grid for each expectation."""
    for name in dict.fromkeys(row.name for row in rows):
        own = [row for row in rows if row.name == name]
        head = ["number", "published"]
        for label in labels:
            head += [label, "difference"]
        reasons: dict[str, None] = {}
        cells = []
        for row in own:
            shares = max(row.value, *(one.value or 0 for one in row.reached)) <= 1
            line = [row.path, _number(row.value, shares)]
            for label, one in zip(labels, row.reached, strict=True):
                if one.reason:
                    reasons[f"{label}: {one.reason}"] = None
                line.append("–" if one.value is None else _number(one.value, shares))
                line.append(_against(one.difference, one.interval, shares))
            cells.append(line)
        notes = [f"published: {own[0].source}", *([own[0].note] if own[0].note else []), *reasons]
        yield Grid(f"{own[0].task}: {own[0].model}", head, cells, notes)


def _against(difference: float | None, interval: Any, shares: bool) -> str:
    if difference is None:
        return "–"
    if interval is None:
        return _signed(difference, shares)
    low, high = (_signed(bound, shares) for bound in interval)
    return f"{_signed(difference, shares)} [{low}, {high}]"
