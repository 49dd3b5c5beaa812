"""Double each size that a user chooses, and fit exponents of cost and arithmetic.

    python -m tests.benchmarks.growth

A small model of the paper's parts on one thread. The time is the best of several rounds, in which all sizes take turns;
the memory is the most that tensors held at a time (of a data set: that Python held). A cost that grows with an exponent
clearly above that of its own arithmetic (`MARGIN`, `MEMORY_MARGIN`) ends the program with an error.
"""

from __future__ import annotations

import gc
import math
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from tests.benchmarks import million
from tests.benchmarks.live_bytes import LiveBytes
from tests.benchmarks.retrieval import Shape, encoded, ours
from tests.benchmarks.step import our_step
from tests.benchmarks.step_batch import make_task
from x2kit.data.sources.config import JsonLines
from x2kit.data.sources.json_lines import JsonLinesSource
from x2kit.training.profiling.costs import count_operations

MARGIN = 0.25
"""Twice the size may cost 2 ** 0.25 = 1.19 times its arithmetic: larger tensors do not fit the caches."""
MEMORY_MARGIN = 0.35
"""A learned bias of attention, as BEiT has, keeps a number for each two patches, while most of the arithmetic of a
small model is still for each patch."""
ROUNDS = 5
SMALL: dict[str, object] = {
    "model.vision.init_args.image_size": 128,
    "model.vision.init_args.width": 128,
    "model.vision.init_args.depth": 3,
    "model.vision.init_args.heads": 2,
    "model.text.init_args.width": 128,
    "model.text.init_args.layers": 3,
    "model.text.init_args.heads": 2,
    "model.text.init_args.vocab_size": 1000,
    "model.fusion.init_args.layers": 2,
    "model.fusion.init_args.heads": 2,
}

Work = Callable[[], object]


class Cost(NamedTuple):
    """Cost of one size."""

    seconds: float
    operations: float
    memory: float


class Measured(NamedTuple):
    """Work of one size: the timed function, its arithmetic, and its peak of bytes."""

    work: Work
    operations: Callable[[Work], float]
    memory: Callable[[Work], float]


class Dimension(NamedTuple):
    """A size that is doubled, and the work of each value."""

    name: str
    unit: str
    sizes: Sequence[int]
    make: Callable[[int], Measured]


def exponents(sizes: Sequence[int], costs: Sequence[Cost]) -> Cost:
    """Fit the exponent of each cost between the first and the last size; 1 for linear growth."""
    doublings = math.log2(sizes[-1] / sizes[0])
    return Cost(
        *(math.log2(last / first) / doublings for first, last in zip(costs[0], costs[-1], strict=True))
    )


def faults(name: str, found: Cost) -> list[str]:
    """List the costs that grow faster than the arithmetic."""
    return [
        f"{name}: {what} grows with exponent {value:.2f}, its arithmetic with {found.operations:.2f}"
        for what, value, margin in (("time", found.seconds, MARGIN), ("memory", found.memory, MEMORY_MARGIN))
        if value > found.operations + margin
    ]


def measure(dimension: Dimension) -> list[Cost]:
    """Measure the cost of each size."""
    made = [dimension.make(size) for size in dimension.sizes]
    operations = [each.operations(each.work) for each in made]  # which is the warm-up, too
    memory = [each.memory(each.work) for each in made]
    best = [math.inf] * len(made)
    for _ in range(ROUNDS):
        for place, each in enumerate(made):
            gc.collect()
            began = time.process_time()
            each.work()
            best[place] = min(best[place], time.process_time() - began)
    return [Cost(*cost) for cost in zip(best, operations, memory, strict=True)]


def table(dimension: Dimension, costs: Sequence[Cost]) -> Iterator[str]:
    """Format costs and exponents as a table."""
    unit = "million" if dimension.name == "records" else "GFLOP"
    scale = 1e6 if dimension.name == "records" else 1e9
    yield f"{dimension.name}: {dimension.unit}"
    yield f"{'':>10}{'seconds':>10}{unit:>10}{'MiB':>10}"
    for size, cost in zip(dimension.sizes, costs, strict=True):
        yield f"{size:>10,}{cost.seconds:>10.3f}{cost.operations / scale:>10.2f}{cost.memory / 2**20:>10.1f}"
    found = exponents(dimension.sizes, costs)
    yield f"{'exponent':>10}{found.seconds:>10.2f}{found.operations:>10.2f}{found.memory:>10.2f}"


def _counted(work: Work) -> float:
    with count_operations() as counter:
        work()
    return float(counter.get_total_flops())


def _held(work: Work) -> float:
    with LiveBytes() as live:
        work()
    return live.peak


def _step(images: int, regions: int = 4, tokens: int | None = None, **changed: object) -> Measured:
    task = make_task(images, {**SMALL, **changed}, regions=regions, tokens=tokens)
    return Measured(our_step(task), _counted, _held)


def _ranking(candidates: int) -> Measured:
    given = encoded(Shape(images=48, side=8, width=128, layers=2))
    return Measured(lambda: ours(given, candidates), _counted, _held)


def _opening(records: int) -> Measured:
    """Open a file for the first time; its lines are the work."""
    file = Path(os.environ["X2KIT_CACHE"]).parent / f"{records}.jsonl"
    if not file.exists():
        million.write(file, records)

    def opened() -> JsonLinesSource:
        os.utime(file)  # so that it is read as if it were new
        return JsonLinesSource(JsonLines(files=(file,)))

    return Measured(opened, lambda work: float(len(opened())), _of_python)


def _of_python(work: Work) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


DIMENSIONS = (
    Dimension("batch", "images a step, each with 2 captions and 4 regions", (4, 8, 16), _step),
    Dimension(
        "image side",
        "pixels, in patches of 16, 4 images a step",
        (64, 128, 256),
        lambda side: _step(4, **{"model.vision.init_args.image_size": side}),
    ),
    Dimension(
        "text length", "tokens of every text, 4 images a step", (16, 32, 64), lambda n: _step(4, tokens=n)
    ),
    Dimension("regions", "regions of an image, 4 images a step", (4, 8, 16), lambda n: _step(4, n)),
    Dimension("candidates", "candidates of a query, 48 images with 5 captions each", (4, 8, 16), _ranking),
    Dimension(
        "records", "lines of a file that is opened for the first time", (50_000, 100_000, 200_000), _opening
    ),
)


@contextmanager
def _own_cache() -> Iterator[None]:
    """Use a temporary cache instead of the user's."""
    before = os.environ.get("X2KIT_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["X2KIT_CACHE"] = str(Path(folder) / "cache")
        try:
            yield
        finally:
            os.environ.pop("X2KIT_CACHE")
            if before is not None:
                os.environ["X2KIT_CACHE"] = before


def main() -> None:
    """Print a table of each size, then fail if a cost grows too fast."""
    torch.set_num_threads(1)
    wrong = []
    with _own_cache():
        for dimension in DIMENSIONS:
            costs = measure(dimension)
            print("\n".join(table(dimension, costs)), end="\n\n", flush=True)
            wrong += faults(dimension.name, exponents(dimension.sizes, costs))
    if wrong:
        raise SystemExit("\n".join(wrong))
    print(
        f"no cost grows faster than its arithmetic: time by {MARGIN} in the exponent at most, memory by {MEMORY_MARGIN}"
    )


if __name__ == "__main__":
    main()
