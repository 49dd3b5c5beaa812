"""Run every benchmark and write docs/results/speed.md: `make bench`.

    python -m tests.benchmarks [NAME ...]

A benchmark is a program of its own. The page holds what each printed, as it printed it, and the machine that it ran on.
"""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

PAGE = Path(__file__).parents[2] / "docs" / "results" / "speed.md"
NAMES = ("step", "retrieval", "data", "million", "start")
HEAD = """# How fast it is

Written by `make bench`. Each benchmark does the same work in the plain way that the field uses and as x2kit does it,
checks that both give equal results, and times them in turns; `ratio` is how many times faster x2kit is. The plain
ways are in `tests/benchmarks/plain_*.py`, as slow and clear as they are. For your own recipe on your own machine, see
[Measure speed](../how-to/measure-speed.md).
"""


def machine() -> str:
    """What it ran on, in words."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = models[0].partition(":")[2].strip() if models else processor
    best = torch.backends.cpu.get_cpu_capability()
    return (
        f"{processor}, {os.cpu_count()} logical processors, {best}; Python {platform.python_version()}, "
        f"torch {torch.__version__}; {datetime.now(UTC):%Y-%m-%d}"
    )


def section(name: str) -> str:
    """Run one benchmark. Raises SystemExit if it fails, for then nothing can be said about it."""
    title = (importlib.import_module(f"tests.benchmarks.{name}").__doc__ or name).splitlines()[0]
    command = [sys.executable, "-m", f"tests.benchmarks.{name}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(done.stdout)
    if done.returncode:
        raise SystemExit(f"{name}: exit status {done.returncode}; {PAGE.name} is left as it was")
    shown = f"```text\n$ python -m tests.benchmarks.{name}\n{done.stdout.strip()}\n```"
    return f"## {name.capitalize()}\n\n{title}\n\n{shown}\n"


def main(names: list[str]) -> None:
    """Run those that are named, all of them by default; the page is written only of all."""
    sections = [section(name) for name in names or NAMES]
    if not names:
        PAGE.write_text("\n".join([HEAD, f"On {machine()}.\n", *sections]), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
