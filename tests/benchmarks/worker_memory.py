"""Measure the memory of each worker over an epoch of a million images: it must not grow.

    python -m tests.benchmarks.worker_memory [RECORDS]

Two workers read image-texts from a JSON Lines file; its images are small, so that an epoch of a million takes
minutes. Every record is visited, which is counted. `own` is what a worker has for itself alone (USS), `resident` is all
that it has in memory, what it shares with others and pages of files included. Growth is of `own`, between 1% of the
epoch, when all modules are loaded, and its end, when the workers, who are ahead, have the order of the next epoch too:
8 bytes a record.
"""

from __future__ import annotations

import base64
import io
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tests.benchmarks.million import RECORDS
from tests.data.stubs import WordTokenizer, stream
from x2kit.data.config import DataConfig
from x2kit.data.pipeline.loader import StepBatches
from x2kit.data.sources.config import JsonLines
from x2kit.plugin import ImageSpec

WORKERS, BATCH, SIDE = 2, 500, 8
PLACES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
"""Shares of the epoch at which the memory is read."""
MAX_GROWTH_MIB = 16.0


class Memory(NamedTuple):
    """MiB of one process."""

    own: float
    resident: float


class Place(NamedTuple):
    """Memory of each worker after a number of records."""

    visited: int
    workers: list[Memory]


def write(file: Path, records: int) -> None:
    """Write records with a small image in base64 and a distinct caption."""
    images = [_image(number) for number in range(64)]
    with file.open("w") as lines:
        for number in range(records):
            fields = {
                "id": number,
                "binary": images[number % 64],
                "caption": f"a photograph of thing {number}",
            }
            lines.write(json.dumps(fields) + "\n")


def memory_of(pid: int) -> Memory:
    """Read the memory of a process from /proc."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(rest.split()[0]) / 1024 for name, _, rest in (line.partition(":") for line in lines)}
    return Memory(sum(size for name, size in sizes.items() if name.startswith("Private_")), sizes["Rss"])


def measured(file: Path, records: int) -> Iterator[Place]:
    """Measure memory at each share of an epoch. Raises AssertionError if it misses a record."""
    source = JsonLines(files=(file,), language="en")
    images = stream("ImageText", source=source, batch_size=BATCH)
    data = DataConfig(streams={"images": images}, num_workers=WORKERS)
    epoch = records // BATCH
    wanted = {max(1, round(epoch * share)) for share in PLACES}
    beyond = (
        epoch + 10 * WORKERS
    )  # workers are ahead, and end with the last step: the epoch's end is not theirs
    visited = np.zeros(records, np.bool_)
    steps = StepBatches(data, WordTokenizer(), ImageSpec(size=SIDE), 0, beyond).iterate()
    for number, batch in enumerate(steps, 1):
        visited[[int(name) for name in batch.records["images"]]] = True
        if number in wanted:
            workers = sorted(multiprocessing.active_children(), key=lambda worker: worker.pid or 0)
            yield Place(int(visited.sum()), [memory_of(worker.pid) for worker in workers if worker.pid])
        if number == epoch:
            break
    assert visited.all(), f"{records - int(visited.sum())} of {records} records were not visited"


def line_of(place: Place, records: int) -> str:
    """Format one measurement."""
    own = ", ".join(f"{worker.own:6.1f}" for worker in place.workers)
    resident = ", ".join(f"{worker.resident:6.1f}" for worker in place.workers)
    return f"{place.visited / records:5.0%} of the epoch: own {own} MiB; resident {resident} MiB"


def growth(places: list[Place]) -> float:
    """Return the largest growth of a worker's private memory from the first to the last share, in MiB."""
    first, last = places[0].workers, places[-1].workers
    return max(after.own - before.own for before, after in zip(first, last, strict=True))


def main() -> None:
    """Read an epoch, print the memory at each share and its growth."""
    records = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    with tempfile.TemporaryDirectory() as folder:
        os.environ["X2KIT_CACHE"] = str(Path(folder) / "cache")
        file = Path(folder) / "million.jsonl"
        write(file, records)
        print(f"{records:,} records, {file.stat().st_size / 2**20:.0f} MiB; {WORKERS} workers")
        began, places = time.monotonic(), []
        for place in measured(file, records):
            places.append(place)
            print(line_of(place, records), flush=True)
        print(f"every record was visited, in {time.monotonic() - began:.0f} s")
    grown = growth(places)
    print(f"growth of the worker that grows most: {grown:.1f} MiB")
    assert grown < MAX_GROWTH_MIB, f"a worker grows by {grown:.0f} MiB, more than {MAX_GROWTH_MIB:.0f}"


def _image(number: int) -> str:
    pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "JPEG")
    return base64.b64encode(packed.getvalue()).decode()


if __name__ == "__main__":
    main()
