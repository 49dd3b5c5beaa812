"""Collect the results of the five IGLUE tasks in one table, with means over languages. Imports no torch.

IGLUE (arXiv:2201.11732) averages without English, which the models are trained on; the scripts of CCLM and X²-VLM
average MaRVL, XVNLI, xFlickr&CO and WIT over all languages. Both means are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from x2kit.evaluation.warnings import retrieval_rows

ENGLISH = "en"
Scores = dict[str, dict[str, float]]
"""Share by name of the score and language."""


class Benchmark(NamedTuple):
    """One task of IGLUE.

    Attributes:
        title: published name.
        rows: rows of the test set by language, counted in the repository's files; None where no file defines them.
    """

    title: str
    rows: Mapping[str, int | None]


BENCHMARKS: Mapping[str, Benchmark] = {
    "xgqa": Benchmark("xGQA", dict.fromkeys(("bn", "de", "en", "id", "ko", "pt", "ru", "zh"), 9666)),
    "xvnli": Benchmark("XVNLI", dict.fromkeys(("ar", "en", "es", "fr", "ru"), 1150)),
    "marvl": Benchmark("MaRVL", {"en": None, "id": 1128, "sw": 1108, "ta": 1242, "tr": 1180, "zh": 1012}),
    "xflickrco": Benchmark(
        "xFlickr&CO",
        {**dict.fromkeys(("de", "en", "es", "id", "ja", "ru", "tr", "zh"), 2000), "de": 1999, "id": 1999},
    ),
    "wit": Benchmark(
        "WIT",
        {"ar": 890, "bg": 860, "da": 891, "el": 570, "en": 1000, "et": 874, "id": 901}
        | {"ja": 1000, "ko": 931, "tr": 721, "vi": 946},
    ),
}
"""The tasks by the names that they have in recipes. XVNLI is without the 14 lines that have no majority label; English
of MaRVL is the test set of NLVR2."""
DIRECTIONS = {"text_to_image": "images", "image_to_text": "texts"}
"""Retrieval of images by texts (IR), and of texts by images (TR)."""


class TaskScores(NamedTuple):
    """Scores of one task by language.

    Attributes:
        scores: by name: accuracy; images and texts (R@1 of retrieving them).
        rows: measured rows, for retrieval texts, by language.
        chance: share of a guess, by language.
        most_frequent: share of always giving the most frequent answer, by language; empty for retrieval.
    """

    scores: Scores
    rows: dict[str, int]
    chance: dict[str, float]
    most_frequent: dict[str, float]


def collect(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Collect results of `x2kit evaluate` in one table.

    Args:
        results: for each task of `BENCHMARKS`, one result with all languages, or one for each (few-shot).
    Returns: JSON values. For each task: scores by name and language, `mean` over all and `mean_without_english` by
        name; rows, chance and most_frequent by language; `warnings`, with each number of rows that is not the
        published one.
    Raises: KeyError if a result has no such task.
    """
    tasks: dict[str, Any] = {}
    warnings: list[str] = []
    for name, benchmark in BENCHMARKS.items():
        found = [scores_of(result, name) for result in results.get(name, ())]
        if not found:
            continue
        merged = _merged(found)
        tasks[name] = {
            "scores": merged.scores,
            "mean": {score: fmean(row.values()) for score, row in merged.scores.items()},
            "mean_without_english": {
                score: fmean(others)
                for score, row in merged.scores.items()
                if (others := [share for code, share in row.items() if code != ENGLISH])
            },
            "rows": merged.rows,
            "chance": merged.chance,
            "most_frequent": merged.most_frequent,
        }
        warnings += _row_warnings(benchmark, merged.rows)
    return {"benchmark": "IGLUE", "tasks": tasks, "warnings": warnings}


def scores_of(result: Mapping[str, Any], name: str) -> TaskScores:
    """Read the scores of the task of this name, or of the only task. Raises KeyError if there is none."""
    described: Mapping[str, Any] = result.get("tasks") or {}
    key = next(iter(described)) if len(described) == 1 else name
    own = described[key].get("result", result)
    if rows := own.get("scores"):
        rows = {code: row for code, row in rows.items() if row.get(own["score"]) is not None}

        def column(key: str) -> dict[str, Any]:
            return {code: row[key] for code, row in rows.items() if row.get(key) is not None}

        counts = column("annotated_questions") or column("rows")
        return TaskScores(
            {"accuracy": column(own["score"])}, counts, column("chance"), column("most_frequent")
        )
    languages = retrieval_rows(own)
    if not languages:
        raise KeyError(name)
    scores = {
        score: {code: _best(row)[direction]["r1"] for code, row in languages.items()}
        for direction, score in DIRECTIONS.items()
    }
    rows = {code: row["queries"] for code, row in languages.items()}
    return TaskScores(scores, rows, {code: row["chance_r1"] for code, row in languages.items()}, {})


def render(table: Mapping[str, Any]) -> Table:
    """Draw scores in per cent: a row for each language, both means, chance; a column for each score."""
    columns = [(task, score) for task, found in table["tasks"].items() for score in found["scores"]]
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    drawn.add_column("per cent\n", no_wrap=True)
    for task, score in columns:
        retrieval = {"images": "\nimages R@1", "texts": "\ntexts R@1"}
        drawn.add_column(
            f"{BENCHMARKS[task].title}{retrieval.get(score, chr(10))}", justify="right", no_wrap=True
        )
    languages = sorted({code for task, score in columns for code in table["tasks"][task]["scores"][score]})
    for code in languages:
        cells = [table["tasks"][task]["scores"][score].get(code) for task, score in columns]
        drawn.add_row(code, *map(_per_cent, cells), end_section=code == languages[-1])
    for title, key in (("mean without en", "mean_without_english"), ("mean", "mean")):
        cells = [table["tasks"][task][key].get(score) for task, score in columns]
        drawn.add_row(title, *map(_per_cent, cells), style="bold")
    for title, key in (("chance", "chance"), ("most frequent", "most_frequent")):
        shares = [list(table["tasks"][task][key].values()) for task, _ in columns]
        drawn.add_row(title, *(_per_cent(fmean(each) if each else None) for each in shares), style="dim")
    rows = [list(table["tasks"][task]["rows"].values()) for task, _ in columns]
    drawn.add_row("rows", *(_span(each) for each in rows), style="dim")
    return drawn


def _merged(found: Sequence[TaskScores]) -> TaskScores:
    merged = TaskScores({}, {}, {}, {})
    for each in found:
        for name, row in each.scores.items():
            merged.scores.setdefault(name, {}).update(row)
        merged.rows.update(each.rows)
        merged.chance.update(each.chance)
        merged.most_frequent.update(each.most_frequent)
    return merged


def _row_warnings(benchmark: Benchmark, rows: Mapping[str, int]) -> Iterator[str]:
    for code, count in rows.items():
        published = benchmark.rows.get(code)
        if published is not None and count != published:
            yield f"{benchmark.title}, {code}: {count} rows, the published test set has {published}"
    if missing := [code for code in benchmark.rows if code not in rows]:
        yield f"{benchmark.title}: not measured in {', '.join(missing)}, so its means are not those of the benchmark"


def _best(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the directions after re-ranking, as CCLM and X²-VLM report them; without it those by similarity."""
    found: Mapping[str, Any] = row.get("reranked") or row
    return found


def _per_cent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def _span(counts: Sequence[int]) -> str:
    return "" if not counts else str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)}-{max(counts)}"
