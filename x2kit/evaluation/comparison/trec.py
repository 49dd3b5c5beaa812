"""Write rankings as run and qrels files of TREC, which trec_eval, pytrec_eval and ranx read. Imports no torch.

A run has lines `query Q0 document rank score tag`, qrels have `query 0 document 1`. trec_eval sorts by score and breaks
ties by the document's name, and single precision; so equal scores are written as descending ones, in the order of
x2kit, in which ties count as misses. `success_k` and `recip_rank` of trec_eval are then R@k and the reciprocal rank of
x2kit, for ranks within the saved documents; `recall_k` too where a query has one relevant document.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from x2kit.evaluation.comparison.measurements import Measurement
from x2kit.evaluation.items import unique
from x2kit.evaluation.rankings import RankedQueries
from x2kit.io.atomic import atomic_file


def write_trec(measurement: Measurement, directory: Path) -> list[Path]:
    """Write a run and a qrels file for each task, language and kind of queries that has rankings.

    Args:
        measurement: its label is the tag of the run.
        directory: of the files TASK.PART.LANGUAGE.LABEL.run and .qrels.
    Returns: the written files.
    Raises: X2KitError for damaged rankings.
    """
    tag = plain(measurement.label)
    found = []
    for task in measurement.tasks:
        for one in measurement.rankings(task):
            stem = ".".join(plain(name) for name in (task, one.part, one.language) if name)
            queries, documents = _words(one.queries), _words(one.documents)
            files = {
                "run": _run_lines(one, queries, documents, tag),
                "qrels": _qrels_lines(one, queries, documents),
            }
            for end, lines in files.items():
                file = directory / f"{stem}.{tag}.{end}"
                with atomic_file(file) as partial:
                    partial.write_text("".join(lines), encoding="utf-8")
                found.append(file)
    return found


def plain(name: str) -> str:
    """Replace characters that separate fields or folders."""
    return re.sub(r"[\s/\\]+", "_", name.strip()).strip(".") or "_"


def _run_lines(one: RankedQueries, queries: Sequence[str], documents: Sequence[str], tag: str) -> list[str]:
    scores = descending(one.scores).astype(float).tolist()
    return [
        f"{query} Q0 {documents[column]} {rank} {score!r} {tag}\n"
        for query, columns, of_query in zip(queries, one.columns.tolist(), scores, strict=True)
        for rank, (column, score) in enumerate(zip(columns, of_query, strict=True), 1)
    ]


def _qrels_lines(one: RankedQueries, queries: Sequence[str], documents: Sequence[str]) -> list[str]:
    return [f"{queries[query]} 0 {documents[document]} 1\n" for query, document in one.relevant.tolist()]


def _words(names: Sequence[str]) -> list[str]:
    """Replace white space, which separates fields."""
    return unique([re.sub(r"\s", "_", name) or "_" for name in names])


def descending(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lower scores [Q, K] to the next smaller number where they are not below the one before."""
    found = scores.copy()
    for place in range(1, found.shape[1]):
        below = np.nextafter(found[:, place - 1], np.float32(-np.inf))
        found[:, place] = np.minimum(found[:, place], below)
    return found
