"""Measure how long training waits for data that is made as fast as its steps: `python -m tests.benchmarks.feeding`.

Each rank trains on two streams of texts whose batch takes its data worker about as long as a step, which is simulated
by sleeping. Two things are printed for each rank: the share of the time that steps wait for data, and the seconds of
the processor that the training thread spends on a batch (it receives one that its workers collated).

Then a loader and a step of equal length, both simulated, with the thread that feeds a CUDA device.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing

import torch

from tests.data.stubs import StubScenes, WordTokenizer, stream
from x2kit.data.config import DataConfig
from x2kit.data.pipeline.loader import StepBatches
from x2kit.data.pipeline.order import Share
from x2kit.data.pipeline.transfer import Ahead, feed
from x2kit.distributed.processes import Processes, started_processes
from x2kit.plugin import ImageSpec

WARM_UP = 4
"""Steps before the measured ones, in which the workers open the sources and fill their queues."""


def text_batches(rows: int, workers: int, steps: int, processes: Processes) -> StepBatches:
    """Build the batches of parallel and single texts, `rows` a step of each over all ranks."""
    source = StubScenes(count=4 * rows)
    data = DataConfig(
        streams={
            "pairs": stream("ParallelText", source=source, pivot="en", positives="text", batch_size=rows),
            "corpus": stream("PlainText", source=source, batch_size=rows),
        },
        num_workers=workers,
    )
    ranks = (lambda: processes.of_workers().gather) if processes.several else None
    share = Share(processes.rank, processes.count)
    return StepBatches(data, WordTokenizer(), ImageSpec(size=16), 0, steps, share, ranks)


class Waiting:
    """Seconds of steps, of their waiting for data, and of the processor while they wait."""

    def __init__(self, batches: Iterator[object], steps: int, step_seconds: float) -> None:
        for _ in range(WARM_UP):
            next(batches)
            time.sleep(step_seconds)
        began, self.waited, self.computed = time.perf_counter(), 0.0, 0.0
        for _ in range(steps):
            start, computing = time.perf_counter(), time.thread_time()
            next(batches)
            self.waited += time.perf_counter() - start
            self.computed += time.thread_time() - computing
            time.sleep(step_seconds)
        self.total = time.perf_counter() - began

    @property
    def share(self) -> float:
        """Share of the time in which steps wait, `data_wait_share` of a run."""
        return self.waited / self.total


def measure_ranks(rows: int, workers: int, steps: int) -> None:
    """Measure the loader alone, and then steps as long as it takes for a batch."""
    torch.set_num_threads(1)
    with started_processes() as processes:
        batches = text_batches(rows, workers, 2 * (WARM_UP + steps), processes)
        for step in ("loader", "step"):
            with closing(feed(batches.iterate(), torch.device("cpu"))) as fed:
                if step == "loader":
                    found = Waiting(fed, steps, 0.0)
                    loader = max(processes.gather(found.total / steps))
                else:
                    found = Waiting(fed, steps, loader)
        for line in processes.gather(
            f"rank {processes.rank}: a batch every {1e3 * loader:.1f} ms, steps as long; they wait "
            f"{100 * found.share:.1f} % of the time; the training thread computes "
            f"{1e3 * found.computed / steps:.1f} ms a batch"
        ):
            if processes.is_rank_zero:
                print(line, flush=True)


def simulated(seconds: float, steps: int) -> float:
    """Return the share of the time that steps of this length wait for a loader of the same length."""

    def loader() -> Generator[int]:
        for number in range(WARM_UP + steps + 1):
            time.sleep(seconds)
            yield number

    with closing(Ahead(loader())) as ahead:
        return Waiting(iter(ahead), steps, seconds).share


def main() -> None:
    """Start the ranks, or be one."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in {"ranks": 2, "workers": 1, "rows": 1024, "steps": 30}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    if options.ranks == 1 or "RANK" in os.environ:
        measure_ranks(options.rows, options.workers, options.steps)
    else:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(options.ranks)]
        command = [sys.executable, *launcher, "-m", "tests.benchmarks.feeding", *sys.argv[1:]]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if "RANK" not in os.environ:
        for seconds in (0.02, 0.1):
            share = simulated(seconds, round(3 / seconds))
            print(
                f"simulated loader and step of {1e3 * seconds:.0f} ms: steps wait {100 * share:.1f} % of the time"
            )


if __name__ == "__main__":
    main()
