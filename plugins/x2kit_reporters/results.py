"""Results by name, and the id of a run in the tracking service. Imports neither wandb nor mlflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

RUN_ID = "run-id.txt"
"""File in a reporter's folder with the id of the run, to resume it or to add results."""
NOT_RESULTS = ("checkpoint", "data", "model", "tasks", "seconds")
"""Parts of evaluation.json that describe the measurement."""


def read_run_id(folder: Path) -> str | None:
    """Read the id of the run of a reporter's folder; None if it was never reported."""
    file = folder / RUN_ID
    return file.read_text(encoding="utf-8").strip() if file.exists() else None


def write_run_id(folder: Path, run_id: str) -> None:
    """Write the id of the run into the reporter's folder."""
    (folder / RUN_ID).write_text(run_id, encoding="utf-8")


def numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """Flatten all numbers to names with slashes: evaluation/test/languages/de/image_to_text/r1."""
    parts = {key: value for key, value in result.items() if key not in NOT_RESULTS}
    return dict(_flatten(parts, f"evaluation/{result['split']}"))


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}/{key}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield prefix, float(value)
