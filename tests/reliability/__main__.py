"""Kill and resume runs, and write docs/results/reliability.md: `make reliability`.

    python -m tests.reliability [--seed N] [--only CHAIN]

A chain is one run that is killed nine times at random moments and then resumed to its end. The page is written only
without --only; the exit status is 1 if a chain ended differently from the uninterrupted run.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from tests.reliability.chains import Result, chains, follow, how_disks_fill
from tests.reliability.kills import readable
from tests.reliability.runs import KINDS, STEPS, Kind, Run, write_recipe

PAGE = Path(__file__).parents[2] / "docs" / "results" / "reliability.md"
WHAT: dict[Kind, str] = {
    "SIGKILL": "`kill -9` at a random moment of a random step, including start-up",
    "SIGKILL while saving": "`kill -9` while a checkpoint is half written",
    "SIGTERM": "sent by batch systems; the run saves and prints how to resume, exit status 130",
    "full disk": "a small file system (tmpfs) fills; the run reports it, exit status 2; then space is freed",
    "file size limit": "files are limited below the size of a checkpoint (RLIMIT_FSIZE), as by a quota; exit status 2",
    "damaged checkpoint": "`kill -9`, then the newest checkpoint is damaged: bit flip, truncation, zeros, lost file",
}


def main(seed: int, only: str | None) -> int:
    """Run the chains and report."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="x2kit-reliability-"))
    try:
        whole = Run(write_recipe(folder), folder / "whole")
        whole.start()
        readable(whole, whole.end(), 0)
        chosen = [chain for chain in chains(how_disks_fill(folder / "probe")) if only in (None, chain.name)]
        results = []
        for number, chain in enumerate(chosen):
            results.append(follow(chain, whole.recipe, folder / str(number), whole, seed))
            print(line_of(results[-1]), flush=True)
    finally:
        shutil.rmtree(folder)
    if only is None:
        PAGE.write_text(page(results, seed, time.monotonic() - began), encoding="utf-8")
    return 0 if all(same(result) for result in results) else 1


def same(result: Result) -> bool:
    """Return whether a chain equals the uninterrupted run."""
    return result.equal_weights and result.equal_metrics and result.equal_board


def line_of(result: Result) -> str:
    """Format a row of the table of chains."""
    found = (result.equal_weights, result.equal_metrics, result.equal_board)
    words = ["equal" if equal else "**not equal**" for equal in found]
    return f"| {result.chain.name} | {result.kills.total()} | {result.starts} | {' | '.join(words)} |"


def page(results: Sequence[Result], seed: int, seconds: float) -> str:
    """Format the page from the results."""
    counts = sum((result.kills for result in results), Counter[Kind]())
    ended = sum(map(same, results))
    rows = "\n".join(f"| {kind} | {WHAT[kind]} | {counts[kind]} |" for kind in KINDS if counts[kind])
    return f"""# Reliability under kills

Written by `make reliability`. A small recipe with every kind of loss trains for {STEPS} steps, with a checkpoint every
five. Its processes are killed at random moments and resumed with `--resume`; the moments follow from seed {seed} and
the load of the machine. (The processes are real and run `x2kit train`; they are forked from one that has imported
torch, which makes starts fast. `tests/training/test_resume.py` does the same with fresh processes.)

**{counts.total()} kills in {len(results)} runs; {ended} of {len(results)} runs equal the uninterrupted run**: weights
byte for byte, every logged value bit for bit, each step once in `metrics.jsonl` and in TensorBoard, and no partial file
left.

| kind | action | kills |
|---|---|---:|
{rows}
| **all** | | **{counts.total()}** |

| run | kills | processes | weights | metrics.jsonl | TensorBoard |
|---|---:|---:|---|---|---|
{chr(10).join(map(line_of, results))}

{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d},
{seconds / 60:.0f} minutes. Without the permission to mount a file system, a file size limit replaces the full disk. The
reasons are in [Order, randomness, resume](../concepts/order-and-resume.md).
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--only", help="name of one chain; the page is not written")
    options = parser.parse_args()
    sys.exit(main(options.seed, options.only))
