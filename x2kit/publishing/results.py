"""Write results as Markdown tables and as `.eval_results/*.yaml`. Imports no torch.

No task is known by name: tables come from the structure of a result, as in `x2kit.evaluation.table`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import yaml

from x2kit.evaluation.warnings import grounding_rows, retrieval_rows

Rows = Mapping[str, Mapping[str, Any]]
DIRECTIONS = {"image_to_text": "i→t", "text_to_image": "t→i"}
TRAINED = "trained_with_images"
NO_BREAK = "\N{NO-BREAK SPACE}"
"""Keeps the first column of a wide table on one line."""


class Column(NamedTuple):
    """A column: heading, value of a row, and whether it is a measured share, which the Hub's result files get.

    `name` is its key in those files.
    """

    title: str
    value: Callable[[Mapping[str, Any]], Any]
    name: str = ""


class Table(NamedTuple):
    """A table of one task by language, and sentences on how it was measured."""

    title: str
    columns: Sequence[Column]
    rows: Rows
    notes: Sequence[str]

    def to_markdown(self) -> str:
        """Format as Markdown: shares in per cent, counts as they are, means of trained and zero-shot languages."""
        lines = [
            f"| language | {' | '.join(column.title for column in self.columns)} |",
            f"|---|{'---:|' * len(self.columns)}",
        ]
        for title, codes in self._groups().items():
            zero_shot = "" if title == "trained" else f"{NO_BREAK}(zero-shot)"
            lines += [
                _row(f"{code}{zero_shot}", [column.value(self.rows[code]) for column in self.columns])
                for code in codes
            ]
            if len(codes) > 1:
                means = [self._mean(column, codes) for column in self.columns]
                lines.append(_row(f"**mean,{NO_BREAK}{title}**", means))
        return "\n".join(lines)

    def _mean(self, column: Column, codes: Sequence[str]) -> float | None:
        """Average a measured share; counts and chance levels have no mean."""
        values = [column.value(self.rows[code]) for code in codes]
        known = [value for value in values if isinstance(value, float)]
        return fmean(known) if column.name and len(known) == len(values) else None

    def _groups(self) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {"trained": [], "zero-shot": []}
        for code, row in self.rows.items():
            groups["trained" if row.get(TRAINED) else "zero-shot"].append(code)
        return {title: codes for title, codes in groups.items() if codes}


class Share(NamedTuple):
    """One measured number: task, language, name of the number, and value in [0, 1]."""

    task: str
    language: str
    name: str
    value: float


def tables(result: Mapping[str, Any], name: str = "") -> Iterator[Table]:
    """Yield the tables of a result and of the tasks that it holds.

    Args:
        result: of `x2kit evaluate`.
        name: of the task if `result` is that of one task.
    """
    if rows := retrieval_rows(result):
        yield Table(name or "Retrieval", _retrieval_columns(rows), rows, _retrieval_notes(result))
    key, grounded = grounding_rows(result)
    if grounded:
        limit = result.get("grounding_iou")
        columns = (
            Column(f"IoU ≥ {limit}", _number(key), key),
            Column("chance", _number("chance")),
            Column("regions", _number("regions")),
            Column("images", _number("images")),
        )
        note = f"A region counts as found if its predicted box has an IoU of at least {limit}."
        yield Table(name or "Grounding", columns, grounded, [note])
    if scores := result.get("scores"):
        yield Table(name or "Scores", _score_columns(scores, str(result.get("score"))), scores, [])
    for task, described in (result.get("tasks") or {}).items():
        if isinstance(described.get("result"), Mapping):
            yield from tables(described["result"], task)


def shares(result: Mapping[str, Any]) -> Iterator[Share]:
    """Yield every measured share of the tables."""
    for table in tables(result):
        for column in table.columns:
            for code, row in table.rows.items() if column.name else ():
                if isinstance(value := column.value(row), float):
                    yield Share(table.title.lower(), code, column.name, value)


def eval_results(result: Mapping[str, Any], datasets: Mapping[str, str], version: str) -> str:
    """Format a result as a file of `.eval_results`, through `huggingface_hub.EvalResultEntry`.

    Args:
        result: of `x2kit evaluate`, without what identifies a machine.
        datasets: data set of the Hub by name of a task, "" for all others; where there is none, the id is the name of
            the source in the recipe, which the notes say.
        version: of x2kit.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    described = result.get("data") or {}
    entries = []
    for share in shares(result):
        data = (described.get("sources") or {}).get(share.task, described)
        on_hub = datasets.get(share.task, datasets.get(""))
        source = (data.get("source") or {}).get("class_path", "unknown")
        notes = (
            f"share in [0, 1]; split {result.get('split')}; {data.get('records')} records; "
            f"fingerprint {data.get('fingerprint')}; measured with x2kit {version}"
        )
        if on_hub is None:
            notes += "; the data is not a data set of the Hub, the id names the source in recipe.yaml"
        task_id = f"{share.task}_{share.language}_{share.name}"
        entries.append(
            EvalResultEntry(on_hub or source, task_id.replace(" ", "_"), round(share.value, 6), notes=notes)
        )
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)


def _retrieval_columns(rows: Rows) -> list[Column]:
    columns = [
        Column(f"{arrow} R@{k}", _number(key, f"r{k}"), f"{key}_r{k}")
        for key, arrow in DIRECTIONS.items()
        for k in (1, 5, 10)
    ]
    if any("reranked" in row for row in rows.values()):
        columns += [
            Column(f"re-ranked {arrow} R@1", _number("reranked", key, "r1"), f"reranked_{key}_r1")
            for key, arrow in DIRECTIONS.items()
        ]
    return [
        *columns,
        Column("chance R@1", _number("chance_r1")),
        Column("texts", _number("queries")),
        Column("images", _number("candidates")),
    ]


def _retrieval_notes(result: Mapping[str, Any]) -> list[str]:
    notes = [
        "i→t: texts found for an image; t→i: images found for a text. R@k is the share of queries with a correct "
        "answer among the first k; ties count as misses."
    ]
    settings = result.get("rerank") or {}
    if settings.get("method") not in (None, "none"):
        notes.append(f"Re-ranked: the matching head orders the first {settings.get('top_k')} of each query.")
    if result.get("positives") not in (None, "row"):
        notes.append(f"Equal {result['positives']}s of other records also count as correct.")
    lower = {
        code: row["highest_r1"]
        for code, row in retrieval_rows(result).items()
        if row.get("highest_r1", 1) < 1
    }
    if lower:
        notes.append(
            f"Different records share texts or images, so R@1 can reach {_cell(min(lower.values()))} to "
            f"{_cell(max(lower.values()))} % in {', '.join(lower)}."
        )
    return notes


def _score_columns(scores: Rows, main: str) -> list[Column]:
    """Build a column for every number, the main one first."""
    names = dict.fromkeys(
        name
        for row in scores.values()
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    )
    chance = ("chance", "most_frequent")
    order = sorted(names, key=lambda name: (name != main, name in chance))
    return [Column(name.replace("_", " "), _number(name), "" if name in chance else name) for name in order]


def _number(*keys: str) -> Callable[[Mapping[str, Any]], Any]:
    def value(row: Any) -> Any:
        for key in keys:
            row = row.get(key) if isinstance(row, Mapping) else None
        return row

    return value


def _row(label: str, values: Sequence[Any]) -> str:
    return f"| {label} | {' | '.join(map(_cell, values))} |"


def _cell(value: Any) -> str:
    """Format a share in per cent, small ones with two digits that count, and a count with separators."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{100 * value:.1f}" if value >= 0.01 or value == 0 else f"{100 * value:.2g}"
    return f"{value:,}"
