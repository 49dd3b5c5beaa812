"""Checks of indexes: conditions in SQL select what the same condition in Python selects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from x2kit.errors import DataError
from x2kit.testing.claims import claim
from x2kit.testing.indexes.rows import HOSTILE, columns_by_id, made_rows, read, vectors
from x2kit.testing.indexes.subject import IndexSubject

Row = Mapping[str, Any]
ROWS = 120


def _given(column: str, holds: Callable[[Any], bool]) -> Callable[[Row], bool]:
    """Return a condition that is false for null, as in SQL."""
    return lambda row: row[column] is not None and holds(row[column])


def _either(one: Callable[[Row], bool], other: Callable[[Row], bool]) -> Callable[[Row], bool]:
    return lambda row: one(row) or other(row)


_quoted = "Album 1/" + HOSTILE[1] + ".jpg"  # it's

CONDITIONS: dict[str, Callable[[Row], bool]] = {
    "year = 2004": _given("year", lambda year: year == 2004),
    "year <> 2004": _given("year", lambda year: year != 2004),
    "year != 2004": _given("year", lambda year: year != 2004),
    "year < 2004": _given("year", lambda year: year < 2004),
    "year <= 2004": _given("year", lambda year: year <= 2004),
    "year > 2016": _given("year", lambda year: year > 2016),
    "year >= 2016": _given("year", lambda year: year >= 2016),
    "quality < -0.5": _given("quality", lambda quality: quality < -0.5),
    "quality = 1.25": _given("quality", lambda quality: quality == 1.25),
    "public": _given("public", lambda public: public),
    "public = true": _given("public", lambda public: public),
    "public = FALSE": _given("public", lambda public: not public),
    "NOT public": _given("public", lambda public: not public),
    "year IN (2001, 2005, 1900)": _given("year", lambda year: year in (2001, 2005)),
    "year NOT IN (2001, 2005)": _given("year", lambda year: year not in (2001, 2005)),
    f"path = '{_quoted.replace(chr(39), chr(39) * 2)}'": _given("path", lambda path: path == _quoted),
    "path LIKE 'Album 1/%'": _given("path", lambda path: path.startswith("Album 1/")),
    "path LIKE 'album 1/%'": lambda row: False,
    "path LIKE '%袖%'": _given("path", lambda path: "袖" in path),
    "path LIKE 'Album _/plain.jpg'": _given("path", lambda path: path.endswith("/plain.jpg")),
    "path NOT LIKE 'Album 1/%'": _given("path", lambda path: not path.startswith("Album 1/")),
    "path IS NULL": lambda row: row["path"] is None,
    "path IS NOT NULL": lambda row: row["path"] is not None,
    "year > 2010 AND public": lambda row: (row["year"] or 0) > 2010 and bool(row["public"]),
    "year > 2015 OR quality < 0": _either(
        _given("year", lambda year: year > 2015), _given("quality", lambda quality: quality < 0)
    ),
    "NOT (year > 2015 OR path IS NULL)": lambda row: (
        row["path"] is not None and row["year"] is not None and row["year"] <= 2015
    ),
    "public AND (year < 2003 OR NOT (quality >= 0))": lambda row: (
        bool(row["public"])
        and (
            (row["year"] is not None and row["year"] < 2003)
            or (row["quality"] is not None and row["quality"] < 0)
        )
    ),
    "TRUE": lambda row: True,
}
INVALID = (
    "nowhere = 1",
    "year =",
    "year = 1; DROP TABLE rows",
    "path LIKE",
    "(year = 1",
    "year = 1)",
    "' OR '1'='1",
)


def conditions_select_as_in_sql(subject: IndexSubject) -> None:
    """`count`, `scan` and `search` select by comparison, IN, LIKE, IS NULL, AND, OR and NOT, with null as in SQL."""
    rows = made_rows(0, ROWS)
    known = columns_by_id(rows)
    with subject.table(rows) as (index, _):
        for where, holds in CONDITIONS.items():
            if unsupported(subject, where):
                claim(_refuses(lambda where=where: index.count(where)), f"{where}: count() accepts it")  # type: ignore[misc]
                continue
            expected = {name for name, row in known.items() if holds(row)}
            found = set(read(index, where))
            claim(
                found == expected,
                f"{where}: scan() selects {len(found)} rows, expected {len(expected)}; the first that differs is "
                f"{sorted(found ^ expected)[:1]}",
            )
            claim(index.count(where) == len(expected), f"{where}: count() is {index.count(where)}")
            hits = index.search(vectors(1), ROWS, where, exact=True)[0]
            claim({hit.id for hit in hits} == expected, f"{where}: search() finds other rows than scan()")


def conditions_take_any_id(subject: IndexSubject) -> None:
    """A quoted id with any character selects its row."""
    rows = made_rows(0, len(HOSTILE))
    with subject.table(rows) as (index, _):
        for name in rows.ids:
            quoted = "'" + name.replace("'", "''") + "'"
            for where in (f"id = {quoted}", f"id IN ({quoted}, 'another')"):
                found = list(read(index, where))
                claim(found == [name], f"{where[:80]} selects {found}, expected {name!r}")


def an_invalid_condition_is_an_error(subject: IndexSubject) -> None:
    """An invalid condition raises DataError from every method, and changes nothing."""
    rows = made_rows(0, 20)
    with subject.table(rows) as (index, _):
        for where in INVALID:
            calls: dict[str, Callable[[], object]] = {
                "count": lambda where=where: index.count(where),  # type: ignore[misc]
                "scan": lambda where=where: list(index.scan((), where)),  # type: ignore[misc]
                "search": lambda where=where: index.search(vectors(1), 3, where),  # type: ignore[misc]
                "delete": lambda where=where: index.delete(where),  # type: ignore[misc]
            }
            for name, call in calls.items():
                claim(_refuses(call), f"{name}() accepts the condition {where!r}")
        claim(set(read(index)) == set(rows.ids), "an invalid condition changes the rows")


def unsupported(subject: IndexSubject, where: str) -> bool:
    """Whether a condition has an operator that the component does not support."""
    return any(f" {operator} " in where for operator in subject.component.unsupported)


def _refuses(call: Callable[[], object]) -> bool:
    try:
        call()
    except DataError:
        return True
    return False


LAWS = (conditions_select_as_in_sql, conditions_take_any_id, an_invalid_condition_is_an_error)
