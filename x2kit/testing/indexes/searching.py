"""Checks of indexes: exact and approximate search."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from x2kit.plugin.indexes import Hit, Index, IndexSpec, Rows
from x2kit.testing.claims import claim
from x2kit.testing.indexes.conditions import unsupported
from x2kit.testing.indexes.rows import DIM, SPEC, columns_by_id, made_rows, vectors
from x2kit.testing.indexes.subject import IndexSubject

QUERIES, K = 9, 10
CLOSE = 1e-4
"""Tolerance of a similarity of float32 vectors; scores are rounded to six decimals."""


def exact_search_equals_numpy(subject: IndexSubject) -> None:
    """Exact search gives the rows and cosine similarities of a full sort, with all columns."""
    rows, queries = made_rows(0, subject.rows), vectors(QUERIES, seed=3)
    with subject.table(rows) as (index, _):
        found = index.search(queries, K, exact=True)
        claim(len(found) == QUERIES, f"{QUERIES} queries give {len(found)} lists")
        _claim_nearest(found, rows, queries)
        known = columns_by_id(rows)
        claim(
            all(hit.columns == known[hit.id] for one in found for hit in one),
            "a hit has other columns than its row",
        )
        claim(index.search(queries[:0], K) == [], "no query does not give an empty list")


def half_precision_changes_little(subject: IndexSubject) -> None:
    """Vectors stored as float16 give the similarities within 0.002."""
    rows, queries = made_rows(0, 80), vectors(QUERIES, seed=3)
    with subject.table(rows, spec=IndexSpec(DIM, "float16", SPEC.columns)) as (index, _):
        _claim_nearest(index.search(queries, K, exact=True), rows, queries, tolerance=2e-3)


def equal_scores_are_ordered_by_id(subject: IndexSubject) -> None:
    """Hits are ordered by score, and those of equal vectors by id, whatever the order of writing."""
    same = np.repeat(vectors(1, seed=8), 6, axis=0)
    ids = ["c", "a", "ä", "b", "A", "袖"]
    with subject.table(made_rows(0, 30), Rows(ids, same)) as (index, _):
        for exact in (True, False):
            hits = index.search(same[:1], K, exact=exact)[0]
            scores = [hit.score for hit in hits]
            claim(scores == sorted(scores, reverse=True), f"scores are not in order: {scores}")
            found = [hit.id for hit in hits[: len(ids)]]
            claim(found == sorted(ids), f"rows with the same vector are in the order {found}")
            claim(abs(scores[0] - 1) < CLOSE, f"a vector has the similarity {scores[0]} to itself")


def k_may_exceed_the_rows(subject: IndexSubject) -> None:
    """A search gives all rows if there are fewer than k, and none of an empty table."""
    with subject.table() as (index, _):
        claim(index.search(vectors(2), K) == [[], []], "an empty table gives hits")
        claim(index.count() == 0 and list(index.scan()) == [], "an empty table has rows")
        report = index.build()
        claim(report.rows == 0, f"build() of an empty table reports {report.rows} rows")
        index.compact()
        index.upsert(made_rows(0, 4))
        claim(
            [len(one) for one in index.search(vectors(2), K)] == [4, 4],
            "a search of 4 rows does not give all",
        )
        claim(index.search(vectors(1), K, "year > 3000") == [[]], "a condition without rows gives hits")


def a_build_measures_recall(subject: IndexSubject) -> None:
    """`build` reports recall of an approximate index; exact search stays exact, and few hits are missed."""
    rows, queries = made_rows(0, subject.rows), vectors(QUERIES, seed=3)
    with subject.table(rows) as (index, location):
        said: list[str] = []
        report = index.build(said.append)
        claim(
            report.kind == index.stats().kind, f"build() reports {report.kind}, stats() {index.stats().kind}"
        )
        claim(report.rows == subject.rows, f"build() reports {report.rows} rows of {subject.rows}")
        measured = report.recall is not None and report.queries > 0
        claim(measured or report.kind == "exact", f"build() of {report.kind} does not report the recall")
        claim(
            report.recall is None or 0.5 <= report.recall <= 1, f"build() reports the recall {report.recall}"
        )
        _claim_nearest(index.search(queries, K, exact=True), rows, queries)
        found = index.recall(queries)
        claim(found >= 0.5, f"recall@10 of {QUERIES} other queries is {found:.2f}, expected at least 0.5")
        if subject.component.shared:
            with subject.component.open(location) as again:
                claim(again.stats().kind == report.kind, "a reopened table has lost its approximate index")


def a_built_index_follows_the_table(subject: IndexSubject) -> None:
    """After a build, new rows are found, deleted and replaced ones are not, also after `compact`."""
    rows = made_rows(0, subject.rows)
    assert rows.vectors is not None
    with subject.table(rows) as (index, _):
        index.build()
        new = made_rows(subject.rows, subject.rows + 5, prefix="new")
        assert new.vectors is not None
        index.upsert(new)
        moved, gone = rows.ids[11], rows.ids[12]
        index.upsert(Rows([moved], vectors(1, seed=77)))
        index.delete("id = '" + gone.replace("'", "''") + "'")
        for step in ("a write", "compact()", "another build()"):
            if step == "compact()":
                index.compact()
            elif step == "another build()":
                index.build()
            claim(_best(index, new.vectors[2]) == new.ids[2], f"after {step} a new row is not found")
            claim(_best(index, vectors(1, seed=77)[0]) == moved, f"after {step} a replaced row is not found")
            found = {hit.id for hit in index.search(rows.vectors[12:13], K)[0]}
            claim(gone not in found, f"after {step} a deleted row is found")
            old = [hit.score for hit in index.search(rows.vectors[11:12], K)[0] if hit.id == moved]
            claim(not old or old[0] < 0.99, f"after {step} the old vector of a replaced row is found")


def conditions_never_cost_hits(subject: IndexSubject) -> None:
    """With an approximate index a search gives k rows whenever as many match, and only such."""
    rows, queries = made_rows(0, subject.rows), vectors(QUERIES, seed=3)
    known = columns_by_id(rows)
    with subject.table(rows) as (index, _):
        index.build()
        for where in (
            "year = 2004",
            "year >= 2010 AND public",
            "path LIKE 'Album 2/%'",
            "year < 2002 OR year > 2018",
        ):
            if unsupported(subject, where):
                continue
            matching = set(_ids(index, where))
            expected = min(K, len(matching))
            for hits in index.search(queries, K, where):
                claim(len(hits) == expected, f"{where}: {len(hits)} hits, but {len(matching)} rows match")
                claim({hit.id for hit in hits} <= matching, f"{where}: a hit does not match")
                claim(
                    all(hit.columns == known[hit.id] for hit in hits), "a hit has other columns than its row"
                )


def threads_search_while_others_write(subject: IndexSubject) -> None:
    """Threads search one open table while another writes, and see whole rows."""
    rows, queries = made_rows(0, 60), vectors(QUERIES, seed=3)
    with subject.table(rows) as (index, _), ThreadPoolExecutor(4) as pool:
        searches = [pool.submit(index.search, queries, K, "year >= 2000") for _ in range(8)]
        writes = [pool.submit(index.upsert, made_rows(60 + 5 * n, 65 + 5 * n)) for n in range(4)]
        for search in searches:
            claim(all(len(hits) == K for hits in search.result()), "a search during writes gives fewer rows")
        for write in writes:
            write.result()
        claim(index.count() == 80, f"60 and 20 rows of threads are {index.count()}")


def _best(index: Index, query: np.ndarray) -> str:
    return index.search(query[None], 1)[0][0].id


def _ids(index: Index, where: str) -> list[str]:
    return [name for rows in index.scan((), where) for name in rows.ids]


def _claim_nearest(found: list[list[Hit]], rows: Rows, queries: np.ndarray, tolerance: float = CLOSE) -> None:
    """Require the scores of a full sort, and to each hit the score of its row."""
    assert rows.vectors is not None
    scores = queries @ rows.vectors.T
    place = {name: number for number, name in enumerate(rows.ids)}
    for hits, own in zip(found, scores, strict=True):
        best = np.sort(own)[::-1][:K]
        claim(len(hits) == K, f"{len(hits)} hits, expected {K}")
        differs = max(abs(hit.score - own[place[hit.id]]) for hit in hits)
        claim(differs <= tolerance, f"a score differs by {differs:.1g} from the cosine similarity of its row")
        worst = float(np.abs(np.array([hit.score for hit in hits]) - best).max())
        claim(worst <= tolerance, f"the hits are not the nearest rows: a score differs by {worst:.1g}")


LAWS = (
    exact_search_equals_numpy,
    half_precision_changes_little,
    equal_scores_are_ordered_by_id,
    k_may_exceed_the_rows,
    a_build_measures_recall,
    a_built_index_follows_the_table,
    conditions_never_cost_hits,
    threads_search_while_others_write,
)
