"""Writes docs/results/tasks.md from the runs that its commands made: `python docs/task_results.py [RUNS]`.

No figure is typed in: every number comes from the evaluation.json and metrics.jsonl of a run directory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from x2kit.io.run_directory import read_metrics

PAGE = Path(__file__).parent / "results" / "tasks.md"
TASKS = ("grounding", "questions", "pairs", "captions", "entailment", "video-questions", "weak-grounding")
SEEDS = (42, 43, 44)
START = "runs/quickstart"

HEAD = f"""# What the tasks of the quickstart reach

Each run starts from the weights of one run of `quickstart/multilingual` (`{START}`, seed 42), trains on built-in scenes
with English texts, and is measured on test scenes of compositions that it never saw, in English and zero-shot in 13
other languages. Chance and the most frequent answer are those of the measured rows. Minutes are the training time by
`metrics.jsonl` on one thread of an AMD EPYC core, beside the tests of x2kit on the same two hardware threads.

| run | metric | steps | minutes | English | zero-shot mean | worst | chance | most frequent | rows a language |
|---|---|---|---|---|---|---|---|---|---|"""


class Measured(NamedTuple):
    """What a run was measured by: the name of the metric, and its row of each language."""

    metric: str
    rows: Mapping[str, Mapping[str, Any]]


def measured(result: Mapping[str, Any]) -> Measured:
    """Find the rows by language of a result with one task."""
    if "grounding" in result:
        return Measured("iou50", result["grounding"])
    (task,) = result["tasks"].values()
    found = task.get("result", result)
    return Measured(found["score"], found["scores"])


def line(name: str, run: Path) -> str:
    """One line of the table."""
    metric, rows = measured(json.loads((run / "evaluation.json").read_text(encoding="utf-8")))
    trained = [row[metric] for row in rows.values() if row["trained_with_images"]]
    others = [row[metric] for row in rows.values() if not row["trained_with_images"]]
    steps = read_metrics(run)
    minutes = sum(step["seconds"] for step in steps) / 60
    first = next(iter(rows.values()))
    numbers = [fmean(trained), fmean(others), min(others), first.get("chance"), first.get("most_frequent")]
    count = first.get("rows", first.get("regions"))
    cells = [name, metric, str(steps[-1]["step"]), f"{minutes:.1f}", *map(shown, numbers), str(count)]
    return f"| {' | '.join(cells)} |"


def shown(number: float | None) -> str:
    """Three decimals, or a dash."""
    return "–" if number is None else f"{number:.3f}"


def commands(found: Mapping[str, Path]) -> Iterator[str]:
    """The commands that made the runs."""
    for name in found:
        task, _, seed = name.rpartition("-")
        keys = f"--model.init_from {START} --training.seed {seed}"
        yield f"x2kit train quickstart/{task} {keys} --run-dir runs/{name}"
        yield f"x2kit evaluate runs/{name}"


def main(runs: Path) -> int:
    """Write the page from the runs that exist; say which are missing."""
    names = [f"{task}-{seed}" for task in TASKS for seed in SEEDS]
    found = {name: runs / name for name in names if (runs / name / "evaluation.json").is_file()}
    missing = [name for name in names if name not in found]
    text = [HEAD, *(line(name, run) for name, run in found.items()), ""]
    if missing:
        text += [f"Not measured for this page: {', '.join(missing)}.", ""]
    text += ["## Commands", "", "```bash", *commands(found), "python docs/task_results.py", "```", ""]
    PAGE.write_text("\n".join(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs")))
