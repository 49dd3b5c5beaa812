"""Draw the fields of a record that a task reads: question, options, answers, label. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from x2kit.evaluation.report.markup import Markup, tag
from x2kit.plugin.sources import Record, Text

_SHOWN = 5
"""Answers that are listed."""


def draw_fields(record: Record) -> Markup:
    """Draw each field as a line; texts in several languages with their codes, answers with counts or weights."""
    lines = [tag("div", tag("b", name), " ", shown, dir="auto") for name, shown in _fields(record)]
    return tag("div", lines, class_="record")


def _fields(record: Record) -> Iterator[tuple[str, str]]:
    if "question" in record:
        yield "question", _text(record["question"])
    if "premise" in record:
        yield "premise", _text(record["premise"])
    label = record.get("label")
    options = record.get("options", [])
    for number, option in enumerate(options):
        yield f"option {number}", f"{_text(option)}{' ✓' if label is not None and label == number else ''}"
    if "answers" in record:
        yield "answers", _answers(record["answers"])
    if label is not None and not options:
        yield "label", str(label)


def _text(text: Text) -> str:
    """Join the choices of a text, each with its languages."""
    choices = text if isinstance(text, list) else [text]
    return " / ".join(
        ", ".join(f"{code}: {one}" for code, one in choice.items()) if isinstance(choice, dict) else choice
        for choice in choices
    )


def _answers(answers: list[str] | dict[str, float]) -> str:
    if isinstance(answers, dict):
        ordered = sorted(answers.items(), key=lambda item: -item[1])
        parts = [f"{answer} ({weight:g})" for answer, weight in ordered]
    else:
        counts = Counter(answers).most_common()
        parts = [answer if count == 1 else f"{answer} × {count}" for answer, count in counts]
    rest = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return ", ".join(parts[:_SHOWN]) + rest
