"""Checks of indexes: creating, opening and writing."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from x2kit.errors import DataError, ShapeError
from x2kit.plugin.indexes import Index, IndexSpec, Rows
from x2kit.testing.claims import claim
from x2kit.testing.indexes.rows import DIM, SPEC, columns_by_id, made_rows, name_of, read, vectors
from x2kit.testing.indexes.subject import IndexSubject


def it_creates_a_table_once(subject: IndexSubject) -> None:
    """`create` refuses a location with a table, `open` one without; a reopened table has the same description."""
    subject.component.check()
    with subject.table(made_rows(0, 3)) as (index, location):
        claim(isinstance(index, Index), f"create() gives {type(index).__name__}, which is no Index")
        claim(
            _refuses(lambda: subject.component.create(location, SPEC)), "create() accepts an existing table"
        )
        index.close()
        index.close()
        with subject.component.open(location) as again:
            claim(again.spec == SPEC, f"a reopened table has the description {again.spec}, expected {SPEC}")
            claim(again.count() == 3, f"a reopened table has {again.count()} rows, expected 3")
    with TemporaryDirectory() as place:
        claim(
            _refuses(lambda: subject.component.open(str(Path(place) / "none"))),
            "open() accepts a missing table",
        )


def it_uses_a_folder_with_other_files(subject: IndexSubject) -> None:
    """The location may have files of x2kit, which are kept."""
    with TemporaryDirectory() as place:
        other = Path(place) / "x2kit-index.json"
        other.write_text("{}")
        with subject.component.create(place, SPEC) as index:
            index.upsert(made_rows(0, 3))
            index.compact()
        claim(other.read_text() == "{}", "it changes other files of its folder")


def rows_are_read_as_written(subject: IndexSubject) -> None:
    """`scan` gives ids with any character, values with their types and nulls, and vectors."""
    for dtype, tolerance in (("float32", 1e-6), ("float16", 1e-3)):
        spec, rows = IndexSpec(DIM, dtype, SPEC.columns, SPEC.facts), made_rows(0, 100)  # type: ignore[arg-type]
        with subject.table(rows, spec=spec) as (index, _):
            found = read(index, vectors=True)
            claim(set(found) == set(rows.ids), "scan() gives other ids than were written")
            for place, (name, columns) in enumerate(columns_by_id(rows).items()):
                got = {column: found[name][column] for column in columns}
                claim(got == columns, f"the columns of {name!r} are {got}, written were {dict(columns)}")
                kinds = [type(value) for value in got.values()]
                claim(
                    kinds == [type(value) for value in columns.values()],
                    f"the values of {name!r} have the types {kinds}",
                )
                assert rows.vectors is not None
                differs = float(np.abs(found[name]["vector"] - rows.vectors[place]).max())
                claim(differs <= tolerance, f"a vector stored as {dtype} differs by {differs:.1g}")


def an_upsert_replaces_by_id(subject: IndexSubject) -> None:
    """Writing rows twice changes nothing; a row is replaced wholly."""
    rows = made_rows(0, 60)
    with subject.table(rows, rows, made_rows(30, 60)) as (index, _):
        claim(index.count() == 60, f"60 rows written repeatedly are {index.count()}")
        claim({n: c for n, c in read(index).items()} == columns_by_id(rows), "repeated rows change values")
        name, other = rows.ids[7], vectors(1, seed=5)
        index.upsert(Rows([name, "new"], np.concatenate([other, other]), {"year": [1999, None]}))
        found = read(index, vectors=True)
        expected = {"path": None, "year": 1999, "quality": None, "public": None}
        claim({**found[name], "vector": 0} == {**expected, "vector": 0}, f"a replaced row is {found[name]}")
        claim(
            bool(np.allclose(found[name]["vector"], other[0], atol=1e-6)), "a replaced vector is the old one"
        )
        claim(index.count() == 61, f"a replaced and a new row make {index.count()} rows of 60, expected 61")
        index.upsert(Rows([], np.empty((0, DIM), np.float32)))


def an_update_keeps_the_rest(subject: IndexSubject) -> None:
    """`update` sets the named columns, ignores unknown ids, and keeps vectors and other columns."""
    rows = made_rows(0, 40)
    with subject.table(rows) as (index, _):
        before = read(index, vectors=True)
        changed = index.update([rows.ids[3], "unknown", rows.ids[5]], {"path": ["new's", "no", None]})
        claim(changed == 2, f"update() of two existing rows returns {changed}")
        after = read(index, vectors=True)
        claim(set(after) == set(before), "update() changes the set of rows")
        expected = {rows.ids[3]: "new's", rows.ids[5]: None}
        for name, row in after.items():
            path = expected.get(name, before[name]["path"])
            claim(
                row["path"] == path, f"after update() the path of {name!r} is {row['path']!r}, not {path!r}"
            )
            claim(bool((row["vector"] == before[name]["vector"]).all()), "update() changes a vector")
            claim(row["year"] == before[name]["year"], "update() changes another column")
        claim(index.update([], {"path": []}) == 0, "update() of no row does not return 0")


def rows_are_deleted_by_condition(subject: IndexSubject) -> None:
    """`delete` returns how many rows are gone; an empty condition is refused."""
    rows = made_rows(0, 60)
    with subject.table(rows) as (index, _):
        claim(
            _refuses(lambda: index.delete("")), "delete() accepts an empty condition, which is an oversight"
        )
        matching = [name for name, row in columns_by_id(rows).items() if (row["year"] or 0) >= 2015]
        gone = index.delete("year >= 2015")
        claim(gone == len(matching), f"delete() of {len(matching)} rows returns {gone}")
        claim(set(read(index)) == set(rows.ids) - set(matching), "delete() leaves other rows than it should")
        hostile = name_of(3)
        quoted = hostile.replace("'", "''")
        claim(hostile in read(index), "a row is missing")
        claim(index.delete(f"id = '{quoted}'") == 1, f"delete() does not find the id {hostile!r}")
        claim(index.delete("year >= 2015") == 0, "delete() finds deleted rows")
        rest = index.count()
        claim(index.delete("TRUE") == rest, 'delete("TRUE") does not return the number of all rows')
        claim(index.count() == 0 and not read(index), "rows are left after all were deleted")
        index.upsert(rows)
        claim(index.count() == 60, "rows cannot be written again after they were deleted")


def wrong_rows_are_refused_whole(subject: IndexSubject) -> None:
    """Invalid rows raise DataError or ShapeError, and nothing of their call is written."""
    rows = made_rows(0, 5)
    assert rows.vectors is not None
    nan = rows.vectors.copy()
    nan[3, 2] = np.nan
    wrong = {
        "a repeated id": replace(rows, ids=[*rows.ids[:4], rows.ids[0]]),
        "an empty id": replace(rows, ids=[*rows.ids[:4], ""]),
        "an id that is not Unicode": replace(rows, ids=[*rows.ids[:4], "\udcff"]),
        "a vector with NaN": replace(rows, vectors=nan),
        "a vector that is not of unit length": replace(rows, vectors=rows.vectors * 3),
        "vectors of another width": replace(rows, vectors=rows.vectors[:, :5]),
        "too few vectors": replace(rows, vectors=rows.vectors[:4]),
        "no vectors": replace(rows, vectors=None),
        "an unknown column": replace(rows, columns={"colour": ["red"] * 5}),
        "a value of another type": replace(rows, columns={"year": [1, 2, 3, 4, "five"]}),
        "a number that is not finite": replace(rows, columns={"quality": [1.0, 2.0, 3.0, 4.0, math.nan]}),
        "too few values": replace(rows, columns={"year": [1, 2]}),
    }
    with subject.table() as (index, _):
        for what, each in wrong.items():
            claim(_refuses(lambda each=each: index.upsert(each)), f"upsert() accepts {what}")  # type: ignore[misc]
            claim(index.count() == 0, f"upsert() with {what} writes rows")
        claim(
            _refuses(lambda: index.update(["a"], {"colour": ["red"]})), "update() accepts an unknown column"
        )
        claim(_refuses(lambda: list(index.scan(["colour"]))), "scan() accepts an unknown column")


def compaction_keeps_every_row(subject: IndexSubject) -> None:
    """`compact` changes no row, and rows can be written afterwards."""
    with subject.table(made_rows(0, 80), made_rows(20, 60)) as (index, _):
        index.delete("year < 2005")
        before = read(index, vectors=True)
        for _ in range(2):
            index.compact()
            after = read(index, vectors=True)
            claim(set(after) == set(before), "compact() changes the set of rows")
            same = all(
                {**row, "vector": 0} == {**before[name], "vector": 0}
                and (row["vector"] == before[name]["vector"]).all()
                for name, row in after.items()
            )
            claim(same, "compact() changes values")
        index.upsert(made_rows(0, 90))
        claim(index.count() == 90, "rows cannot be written after compact()")


def statistics_count_rows(subject: IndexSubject) -> None:
    """`stats` gives the number of rows, a version that grows, and a size unless it is on a server."""
    with subject.table(made_rows(0, 50)) as (index, _):
        before = index.stats()
        claim(before.rows == 50, f"stats() of 50 rows says {before.rows}")
        claim(before.bytes is None or before.bytes >= 50 * DIM * 4, f"stats() says {before.bytes} bytes")
        index.upsert(made_rows(0, 1))
        after = index.stats().version
        grown = before.version is None or (after is not None and after > before.version)
        claim(grown, "the version does not grow with a write")


def _refuses(call: Callable[[], object]) -> bool:
    """Whether a call raises DataError or ShapeError; other errors are raised."""
    with suppress(DataError, ShapeError):
        call()
        return False
    return True


LAWS = (
    it_creates_a_table_once,
    it_uses_a_folder_with_other_files,
    rows_are_read_as_written,
    an_upsert_replaces_by_id,
    an_update_keeps_the_rest,
    rows_are_deleted_by_condition,
    wrong_rows_are_refused_whole,
    compaction_keeps_every_row,
    statistics_count_rows,
)
