"""Kill runs, let them go on, and write docs/results/reliability.md: `make reliability`.

    python -m tests.reliability [--seed N] [--only CHAIN]

Every chain is one run that is killed nine times at random moments and then goes on to its end. The page is written
only if all chains were followed; the exit status is 1 if one ended otherwise than the run that nobody killed.
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
    "SIGKILL": "`kill -9` at a random moment of a random step, of start-up too",
    "SIGKILL while saving": "`kill -9` while a checkpoint is half written",
    "SIGTERM": "what a batch system sends; the run saves, says how to go on, exit status 130",
    "full disk": "a small file system (tmpfs) fills; the run says so, exit status 2; then room is made",
    "file size limit": "no file may grow as large as a checkpoint (RLIMIT_FSIZE), as with a quota; exit status 2",
    "damaged checkpoint": "`kill -9`, then the newest checkpoint loses a bit, its end, a file, or all it held",
}


def main(seed: int, only: str | None) -> int:
    """Follow the chains and report."""
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
    """Whether a run ended as if nobody had killed it."""
    return result.equal_weights and result.equal_metrics and result.equal_board


def line_of(result: Result) -> str:
    """A row of the table of chains."""
    found = (result.equal_weights, result.equal_metrics, result.equal_board)
    words = ["equal" if equal else "**not equal**" for equal in found]
    return f"| {result.chain.name} | {result.kills.total()} | {result.starts} | {' | '.join(words)} |"


def page(results: Sequence[Result], seed: int, seconds: float) -> str:
    """The page, from what was counted."""
    counts = sum((result.kills for result in results), Counter[Kind]())
    ended = sum(map(same, results))
    rows = "\n".join(f"| {kind} | {WHAT[kind]} | {counts[kind]} |" for kind in KINDS if counts[kind])
    return f"""# What kills cannot do

Written by `make reliability`. A small recipe with every kind of loss trains for {STEPS} steps, with a checkpoint every
five. Its processes are ended at random moments and go on with `--resume`; the moments follow from seed {seed} and from
how busy the machine is. (The processes are real, and run what `x2kit train` runs; they are forked from one that has
imported torch, so that a start takes a moment. `tests/training/test_resume.py` does the same with fresh ones.)

**{counts.total()} kills in {len(results)} runs; {ended} of {len(results)} runs ended as the run that nobody killed**:
weights byte for byte, every logged number bit for bit, in `metrics.jsonl` and in TensorBoard no line twice and none
missing, no half-written file left.

| kind | what is done | kills |
|---|---|---:|
{rows}
| **all** | | **{counts.total()}** |

| run | kills | processes | weights | metrics.jsonl | TensorBoard |
|---|---:|---:|---|---|---|
{chr(10).join(map(line_of, results))}

{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d},
{seconds / 60:.0f} minutes. Where no file system may be mounted, the limit on the size of files stands in for the full
disk. See [Order, randomness, resume](../concepts/order-and-resume.md) for why this holds.
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--only", help="one chain by its name; the page is left as it is")
    options = parser.parse_args()
    sys.exit(main(options.seed, options.only))
