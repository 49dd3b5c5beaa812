"""State the limits of a model as its numbers show them, and what was not measured. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from x2kit.plugin.tasks import PretrainingConfig
from x2kit.publishing.facts import Facts
from x2kit.publishing.results import Table, tables


def limits_of(facts: Facts) -> list[str]:
    """List the limits of a model as sentences; the strongest first."""
    found = [*_warnings(facts), *_weakest(facts), *_unmeasured(facts), *_general(facts)]
    return list(dict.fromkeys(found))


def _warnings(facts: Facts) -> Iterator[str]:
    """Yield the warnings that `x2kit evaluate` stored with the results."""
    for name, result in facts.results.items():
        for text in result.get("warnings") or ():
            yield f"{name}: {text}."


def _weakest(facts: Facts) -> Iterator[str]:
    """Compare the best and the weakest language of each task by its first number."""
    for result in facts.results.values():
        for table in tables(result):
            yield from _weakest_of(table, result)


def _weakest_of(table: Table, result: Mapping[str, Any]) -> Iterator[str]:
    column = table.columns[0]
    values = {code: column.value(row) for code, row in table.rows.items()}
    known = {code: value for code, value in values.items() if isinstance(value, float)}
    if not known:
        return
    low, high = min(known, key=lambda code: known[code]), max(known, key=lambda code: known[code])
    if known[low] == known[high]:
        return
    yield (
        f"{table.title}, {column.title}, split {result.get('split')}: weakest in {low} "
        f"({100 * known[low]:.1f} %), best in {high} ({100 * known[high]:.1f} %)."
    )


def _unmeasured(facts: Facts) -> Iterator[str]:
    if not facts.results:
        yield "Nothing was measured."
        return
    trained, texts_only, _ = facts.languages()
    measured = {code for result in facts.results.values() for table in tables(result) for code in table.rows}
    if without := [code for code in (*trained, *texts_only) if code not in measured]:
        yield f"Trained, but not measured in: {', '.join(without)}."
    tasks = {
        described.get("class_path")
        for result in facts.results.values()
        for described in (result.get("tasks") or {}).values()
    }
    trained_tasks = {
        stream.task.component_name()
        for stream in facts.streams
        if not isinstance(stream.task, PretrainingConfig)
    }
    if without_result := sorted(trained_tasks - tasks):
        yield f"Trained, but not measured: {', '.join(without_result)}."
    split = {str(result.get("split")) for result in facts.results.values()}
    sources = {
        str(((result.get("data") or {}).get("source") or {}).get("class_path"))
        for result in facts.results.values()
    }
    yield (
        f"Measured on {', '.join(sorted(sources))} ({', '.join(sorted(split))}) only; nothing is known about other "
        "images, texts and languages."
    )


def _general(facts: Facts) -> Iterator[str]:
    if not facts.reads_texts:
        yield "The model has no tokenizer: it takes ids of tokens, but no texts."
    if facts.results:
        yield "One training run: the variation between seeds is not known."
    yield "Bias, safety and unwanted content were not measured."
    if facts.streams:
        yield "The licence of the training data is not recorded."
    else:
        yield "The training data is not recorded."
