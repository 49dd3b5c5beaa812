"""Compare measurements by task, language and metric. Imports no torch.

Items are paired by id. Runs that were measured on other records are shown side by side and not paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from x2kit.errors import X2KitError
from x2kit.evaluation.comparison.inputs import Differing, differing_inputs
from x2kit.evaluation.comparison.measurements import Measurement
from x2kit.evaluation.comparison.resampling import (
    Array,
    Columns,
    Interval,
    bootstrap,
    contributions,
    exact_bound,
    holm,
    randomisation_test,
)
from x2kit.evaluation.expectations import number_at
from x2kit.evaluation.items import Part

MEAN = "mean"


@dataclass(frozen=True)
class Settings:
    """Settings of a comparison.

    Attributes:
        metrics: names to compare; None for the first of each kind of items.
        samples: bootstrap resamples.
        permutations: of each test.
        seed: of both.
        confidence: of the intervals.
    """

    metrics: Sequence[str] | None = None
    samples: int = 10_000
    permutations: int = 9_999
    seed: int = 0
    confidence: float = 0.95


class Score(NamedTuple):
    """A score of one run with its interval, over `items` of `records`."""

    value: float
    interval: Interval | None
    items: int
    records: int


class Change(NamedTuple):
    """The difference of a run to the first one; `p` is two-sided, `p_holm` adjusted for all tests of the comparison."""

    value: float
    interval: Interval
    p: float
    p_holm: float = 1.0


@dataclass(frozen=True)
class Row:
    """Scores of one language, or a mean over languages.

    Attributes:
        language: its code, or "mean", "mean trained", "mean zero-shot".
        languages: that it covers.
        scores: of each run; None where a run has none.
        changes: of each run against the first; None for the first, and where items are not paired.
        chance: level; None if unknown.
        candidates: documents of a query in each language, without repetition.
    """

    language: str
    languages: tuple[str, ...]
    scores: list[Score | None]
    changes: list[Change | None]
    chance: float | None = None
    candidates: tuple[int, ...] = ()


@dataclass(frozen=True)
class Table:
    """One metric of one kind of items of a task.

    Attributes:
        task, part, metric: names.
        rows: means first.
        unpaired: why the items of a run are not paired with those of the first, by label.
        left_out: languages that some runs have and others have not.
        permutations: of each test; 0 without one.
        exact: whether these are all permutations.
    """

    task: str
    part: str
    metric: str
    rows: list[Row]
    unpaired: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    permutations: int = 0
    exact: bool = False


@dataclass(frozen=True)
class Comparison:
    """Measurements side by side, the first one is the baseline."""

    measurements: list[Measurement]
    settings: Settings
    tables: list[Table]
    inputs: list[Differing]

    @property
    def tests(self) -> int:
        """Number of tests, which Holm's correction counts."""
        return sum(
            change is not None for table in self.tables for row in table.rows for change in row.changes
        )


def compare(measurements: Sequence[Measurement], settings: Settings) -> Comparison:
    """Compare runs with the first one.

    Args:
        measurements: one or more; of a single one the intervals are computed.
        settings: of resampling.
    Raises: X2KitError for runs without a common task, an unknown metric, or damaged values of items.
    """
    first = measurements[0]
    common = [task for task in first.tasks if all(task in one.tasks for one in measurements)]
    if not common:
        listed = "; ".join(f"{one.label} measured {', '.join(one.tasks)}" for one in measurements)
        raise X2KitError(
            f"the runs have no task in common: {listed}; evaluate them with one recipe: "
            "x2kit evaluate RUN --recipe NAME"
        )
    tables = [table for task in common for table in _tables(task, measurements, settings)]
    if settings.metrics is not None and (
        unknown := set(settings.metrics) - {table.metric for table in tables}
    ):
        known = dict.fromkeys(
            name for task in common for part in first.items(task) or [] for name in part.values
        )
        raise X2KitError(
            f"--metrics: no task has items with {', '.join(sorted(unknown))}; known: {', '.join(known) or 'none'}"
        )
    return Comparison(list(measurements), settings, _corrected(tables), differing_inputs(measurements))


def _corrected(tables: Sequence[Table]) -> list[Table]:
    changes = [
        change for table in tables for row in table.rows for change in row.changes if change is not None
    ]
    adjusted = iter(holm([change.p for change in changes]))
    return [
        replace(
            table,
            rows=[
                replace(
                    row,
                    changes=[each and each._replace(p_holm=next(adjusted)) for each in row.changes],
                )
                for row in table.rows
            ],
        )
        for table in tables
    ]


def _tables(task: str, measurements: Sequence[Measurement], settings: Settings) -> Iterator[Table]:
    items = [one.items(task) for one in measurements]
    missing = {
        one.label: f"{one.file.name} has no values of single items; evaluate again: x2kit evaluate RUN"
        for one, parts in zip(measurements, items, strict=True)
        if parts is None
    }
    reference = next((parts for parts in items if parts), None)
    if reference is None:
        return
    parts_of = list(dict.fromkeys(part.part for part in reference))
    for name in parts_of:
        kept = [[part for part in parts or [] if part.part == name] for parts in items]
        metrics = list(next(part for part in reference if part.part == name).values)
        for metric in (
            metrics[:1] if settings.metrics is None else [m for m in metrics if m in settings.metrics]
        ):
            scored = [[part for part in parts if _is_scored(part, metric)] for parts in kept]
            if any(scored):
                yield _table(task, name, metric, measurements, scored, missing, settings)


def _is_scored(part: Part, metric: str) -> bool:
    """Whether any item has a value; answers to a test without annotations have none."""
    return metric in part.values and not np.isnan(part.values[metric]).all()


def _table(
    task: str,
    name: str,
    metric: str,
    measurements: Sequence[Measurement],
    parts: Sequence[Sequence[Part]],
    missing: Mapping[str, str],
    settings: Settings,
) -> Table:
    by_language = [{part.language: part for part in found} for found in parts]
    reference = next(found for found in by_language if found)
    common = [code for code in reference if all(code in found for found in by_language if found)]
    every = dict.fromkeys(code for found in by_language for code in found)
    left_out = tuple(code for code in every if code not in common)
    if not common:
        return Table(task, name, metric, [], missing, left_out)
    groups = _groups(reference, common)
    means_of = np.zeros((len(common), len(groups)))
    for place, codes in enumerate(groups.values()):
        for code in codes:
            means_of[common.index(code), place] = 1 / len(codes)
    unpaired = dict(missing)
    columns = [columns_of(found, common, metric) if found else None for found in by_language]
    base, first = columns[0], measurements[0]
    scores: list[list[Score | None]] = []
    changes: list[list[Change | None]] = []
    permutations, exact = 0, False
    for place, (one, own) in enumerate(zip(measurements, columns, strict=True)):
        if own is None:
            stated = _stated(one, task, reference, groups, metric)
            scores.append(stated)
            changes.append([None] * len(groups))
            unpaired.setdefault(one.label, f"{one.file.name} has no scored items")
            continue
        reason = (
            None
            if not place
            else _unpaired(first, one, task, by_language[0], by_language[place], common, metric)
        )
        if place and base is not None and reason is None:
            found = _paired(base, own, means_of, settings)
            permutations, exact = found.permutations, found.exact
            changes.append(list(found.changes))
        else:
            changes.append([None] * len(groups))
            if reason:
                unpaired[one.label] = reason
        binary = all(np.isin(by_language[place][code].values[metric], (0, 1)).all() for code in common)
        scores.append(_scores(own, means_of, binary, settings))
    rows = [
        Row(
            title,
            codes,
            [of_run[place] for of_run in scores],
            [of_run[place] for of_run in changes],
            _chance([reference[code] for code in codes], metric),
            tuple(dict.fromkeys(c for code in codes if (c := reference[code].candidates) is not None)),
        )
        for place, (title, codes) in enumerate(groups.items())
    ]
    return Table(task, name, metric, rows, unpaired, left_out, permutations, exact)


def _groups(reference: Mapping[str, Part], common: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Name the rows and the languages of each: means over all, trained and zero-shot ones, then each language."""
    groups: dict[str, tuple[str, ...]] = {}
    trained = tuple(code for code in common if reference[code].trained)
    others = tuple(code for code in common if not reference[code].trained)
    if len(common) > 1:
        groups[MEAN] = tuple(common)
        if trained and others:
            groups |= {f"{MEAN} trained": trained, f"{MEAN} zero-shot": others}
    return groups | {code: (code,) for code in common}


def columns_of(found: Mapping[str, Part], languages: Sequence[str], metric: str) -> Columns:
    """Sum the values of each record in each language; records in order of appearance."""
    number: dict[str, int] = {}
    for code in languages:
        for record in found[code].records:
            number.setdefault(record, len(number))
    sums, counts = np.zeros((len(number), len(languages))), np.zeros((len(number), len(languages)))
    for place, code in enumerate(languages):
        values = found[code].values[metric]
        rows = np.asarray([number[record] for record in found[code].records], dtype=np.int64)
        known = ~np.isnan(values)
        np.add.at(sums[:, place], rows[known], values[known])
        np.add.at(counts[:, place], rows[known], 1)
    scored = counts.sum(1) > 0
    return Columns(sums[scored], counts[scored])


def _unpaired(
    first: Measurement,
    other: Measurement,
    task: str,
    before: Mapping[str, Part],
    after: Mapping[str, Part],
    languages: Sequence[str],
    metric: str,
) -> str | None:
    """Say why items of two runs cannot be paired; None if they can."""
    ours, theirs = first.data(task), other.data(task)
    if first.result.get("split") != other.result.get("split"):
        return f"split {other.result.get('split')}, and {first.label} has {first.result.get('split')}"
    for key, noun in (("fingerprint", "data fingerprint"), ("records", "number of records")):
        if ours.get(key) != theirs.get(key):
            return f"other records: {noun} {theirs.get(key)}, and {first.label} has {ours.get(key)}"
    for code in languages if before else ():
        one, two = before[code], after[code]
        if one.ids != two.ids or one.records != two.records:
            return f"other items in {code}, or another order: {len(two.ids)}, and {first.label} has {len(one.ids)}"
        if (np.isnan(one.values[metric]) != np.isnan(two.values[metric])).any():
            return f"other items in {code} are scored"
    return None if before else f"{first.label} has no values of single items"


class _Pairs(NamedTuple):
    changes: list[Change]
    permutations: int
    exact: bool


def _paired(base: Columns, own: Columns, means_of: Array, settings: Settings) -> _Pairs:
    intervals = bootstrap([base, own], means_of, settings.samples, settings.seed, settings.confidence)
    parts = contributions(base, own, means_of)
    test = randomisation_test(parts, settings.permutations, settings.seed)
    changes = [
        Change(float(value), of_row[2], p)
        for value, of_row, p in zip(parts.sum(0), intervals, test.p, strict=True)
    ]
    return _Pairs(changes, test.permutations, test.exact)


def _scores(own: Columns, means_of: Array, binary: bool, settings: Settings) -> list[Score | None]:
    """Compute the scores of a run; of binary values that are all equal the interval is exact."""
    intervals = bootstrap([own], means_of, settings.samples, settings.seed, settings.confidence)
    values = own.means() @ means_of
    found: list[Score | None] = []
    for place in range(means_of.shape[1]):
        used = means_of[:, place] > 0
        counts = own.counts[:, used].sum(1)
        records, value, interval = int((counts > 0).sum()), float(values[place]), intervals[place][0]
        hits = own.sums[:, used].sum(1)
        if binary and (not hits.any() or (hits == counts).all()):
            interval = exact_bound(records, bool(hits.any()), settings.confidence)
        found.append(Score(value, interval, int(counts.sum()), records))
    return found


def _stated(
    one: Measurement,
    task: str,
    reference: Mapping[str, Part],
    groups: Mapping[str, Sequence[str]],
    metric: str,
) -> list[Score | None]:
    """Read the scores of a run without values of items from its result, by the paths of another run's items."""
    found: list[Score | None] = []
    for codes in groups.values():
        values = [number_at(one.numbers(task), f"{reference[code].path}.{metric}") for code in codes]
        known = [value for value in values if value is not None]
        complete = known and len(known) == len(values)
        found.append(Score(sum(known) / len(known), None, 0, 0) if complete else None)
    return found


def _chance(parts: Sequence[Part], metric: str) -> float | None:
    levels = [part.chance.get(metric) for part in parts]
    known = [level for level in levels if level is not None]
    return sum(known) / len(known) if known and len(known) == len(levels) else None
