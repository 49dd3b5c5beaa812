"""The numbers of a result by name. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LEFT_OUT = ("checkpoint", "data", "model", "tasks", "seconds")
"""Parts of evaluation.json that say what was measured, not how it went."""


def numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """All numbers, by their keys with a slash between: evaluation/test/languages/de/image_to_text/r1."""
    parts = {key: value for key, value in result.items() if key not in LEFT_OUT}
    return dict(_flat(parts, f"evaluation/{result['split']}"))


def _flat(value: Any, above: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{above}/{key}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield above, float(value)
