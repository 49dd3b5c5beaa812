"""What lies in a run directory, and how its metrics are read. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

INITIALISATION = "initialisation.json"
RECIPE, VERSIONS, METRICS, TENSORBOARD = "recipe.yaml", "versions.json", "metrics.jsonl", "tensorboard"
REPORTERS = "reporters"
"""A folder for each reporter, by its name in the recipe."""
TRACEBACK = "traceback.txt"
"""Of the error in a plugin's code that ended the run."""
BAD_RECORDS, BAD_COUNTS = "bad-records.jsonl", "bad-records-counts.json"


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that a killed process left unfinished is dropped."""
    return read_lines(run / METRICS)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file, none if it is missing; an unfinished last line is dropped."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
