"""Run every test file in a process of its own and print the ones that fail.

python -m tests.alone                       all files, without the tests marked slow
python -m tests.alone tests/cli tests/io    the files below these folders
python -m tests.alone --workers 4           so many files at a time; the default is the number of cores

Files are run in the order of their names, each as `pytest FILE` would. Only third-party packages are imported
before the processes fork, so no file can rely on an x2kit module that another file has imported.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
HEAVY = (
    "pytest",
    "hypothesis",
    "numpy",
    "torch",
    "torchvision",
    "transformers",
    "timm",
    "pydantic",
    "jsonargparse",
)
NO_TESTS = 5
"""Exit status of pytest for a file that has slow tests only."""


class Outcome(NamedTuple):
    """One file's exit status, seconds and output."""

    file: Path
    status: int | None
    seconds: float
    output: str

    @property
    def passed(self) -> bool:
        """Whether no test failed."""
        return self.status in (0, NO_TESTS)


def files_below(places: Sequence[Path]) -> Iterator[Path]:
    """Yield the test files among files and folders, sorted by name."""
    for place in places:
        yield from sorted(place.rglob("test_*.py")) if place.is_dir() else [place]


def run_alone(file: Path) -> Outcome:
    """Run one file in a new process that forks from the preloaded server."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        process = multiprocessing.get_context("forkserver").Process(target=_pytest, args=(file, output))
        process.start()
        process.join()
        text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    return Outcome(file, process.exitcode, time.monotonic() - began, text)


def _pytest(file: Path, output: Path) -> None:
    """Send the output of a pytest run, that of its subprocesses too, to a file."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.argv = ["pytest", str(file)]
    import pytest

    status = pytest.main(
        ["-n", "0", "-p", "no:randomly", "-p", "no:cacheprovider", "-m", "not slow", str(file)]
    )
    with contextlib.suppress(ValueError):  # a test may have closed it
        sys.stdout.flush()
    os._exit(int(status))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each failed file, then its output; exit status 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("places", nargs="*", type=Path, default=[TESTS])
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    settings = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core a file
    multiprocessing.set_forkserver_preload(list(HEAVY))
    files = list(files_below(settings.places))
    with ThreadPoolExecutor(settings.workers) as pool:
        outcomes = []
        for outcome in pool.map(run_alone, files):
            outcomes.append(outcome)
            print(
                f"{'passed' if outcome.passed else 'FAILED'} {outcome.seconds:6.1f} s  {outcome.file}",
                flush=True,
            )
    failed = [outcome for outcome in outcomes if not outcome.passed]
    for outcome in failed:
        print(f"\n{'=' * 20} {outcome.file}, exit status {outcome.status}\n{outcome.output}")
    print(
        f"\n{len(files)} files run alone, {len(failed)} failed",
        *(f"  {one.file}" for one in failed),
        sep="\n",
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
