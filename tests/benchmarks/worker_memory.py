"""Memory of each worker over an epoch of a million records: it must not grow.

    python -m tests.benchmarks.worker_memory [RECORDS]

Two workers read a text stream from JSON Lines. The memory is what a worker has for itself alone (USS), of
/proc/PID/smaps_rollup, at ten places of the epoch; growth is from the second to the last, as the first is before all
modules are loaded and all of the index was touched.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.million import RECORDS, write
from tests.data.stubs import WordTokenizer, stream
from x2kit.data.config import DataConfig
from x2kit.data.json_lines import JsonLines
from x2kit.data.loading import StepBatches
from x2kit.plugin import ImageSpec

WORKERS, BATCH, PLACES = 2, 500, 10
MAX_GROWTH_MIB = 16.0


def alone(pid: int) -> float:
    """MiB that a process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def measured(file: Path, records: int) -> list[list[float]]:
    """MiB of each worker, at `PLACES` places of an epoch."""
    source = JsonLines(files=(file,), language="en")
    data = DataConfig(
        streams={"corpus": stream("text", source=source, batch_size=BATCH)}, num_workers=WORKERS
    )
    steps = records // BATCH
    found = []
    for number, _ in enumerate(StepBatches(data, WordTokenizer(), ImageSpec(size=16), 0, steps).iterate(), 1):
        if number % (steps // PLACES) == 0:
            workers = sorted(multiprocessing.active_children(), key=lambda worker: worker.pid or 0)
            found.append([alone(worker.pid) for worker in workers if worker.pid and worker.is_alive()])
            sizes = ", ".join(f"{size:.0f}" for size in found[-1])
            print(f"{len(found) / PLACES:4.0%} of the epoch: {sizes} MiB", flush=True)
            if len(found) == PLACES - 1:  # at the end the workers are gone
                break
    return found


def main() -> None:
    """Read an epoch, print the memory at each place and its growth."""
    records = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    with tempfile.TemporaryDirectory() as folder:
        os.environ["X2KIT_CACHE"] = str(Path(folder) / "cache")
        file = Path(folder) / "million.jsonl"
        write(file, records)
        began = time.monotonic()
        found = measured(file, records)
        print(f"{records:,} records, {WORKERS} workers, {time.monotonic() - began:.0f} s")
        growth = max(last - second for last, second in zip(found[-1], found[1], strict=True))
        print(f"growth of the worker that grows most: {growth:.1f} MiB")
        assert growth < MAX_GROWTH_MIB, f"a worker grows by {growth:.0f} MiB, more than {MAX_GROWTH_MIB:.0f}"


if __name__ == "__main__":
    main()
