"""Compare the predicted step of 1, 2 and 4 ranks on this machine with the measured one.

    python -m tests.benchmarks.scaling

Each rank has the rows of the recipe, so that all have the more rows the more ranks there are. Steps of a rank alone and
steps of all ranks together alternate, so that other programs disturb both. The pieces of the prediction are the median
step of a rank alone, and bandwidth and latency of gloo from all-reduces of 16 bytes and of 8 MiB; nothing is fitted to
the step of all ranks. Data is loaded before the clock starts. `wall` is elapsed time, `processor` that of a rank's own
threads, which does not count waiting for ranks that other programs delay.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import distributed

from tests.training.torchrun import torchrun
from x2kit.cli.recipes.scale import workload_of
from x2kit.distributed.processes import ALONE, Processes, started_processes
from x2kit.recipe import read_recipe
from x2kit.training.profiling.bench import scale_batches
from x2kit.training.profiling.scaling import Hardware, Link, predict
from x2kit.training.stepper import Stepper, assemble

RECIPE = "quickstart/english"
RANKS, ROUNDS = (1, 2, 4), 4
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
LARGE = 2**21
"""Floats of the message from which the bandwidth is measured."""
COLLECTIVES = (
    *("all_reduce", "all_gather", "all_gather_object", "all_to_all", "all_to_all_single", "broadcast"),
    *("all_gather_into_tensor", "reduce_scatter_tensor", "broadcast_object_list", "batch_isend_irecv"),
)


def timed(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Return the median seconds by clock, each run begun by all ranks together."""
    seconds: dict[str, list[float]] = {name: [] for name in CLOCKS}
    for _ in range(repeats):
        together()
        began = {name: clock() for name, clock in CLOCKS.items()}
        work()
        for name, clock in CLOCKS.items():
            seconds[name].append(clock() - began[name])
    return {name: median(found) for name, found in seconds.items()}


def together() -> None:
    """Wait for all ranks."""
    if distributed.is_initialized():
        distributed.barrier()


def counted(work: Callable[[], object]) -> int:
    """Count the messages of a piece of work."""
    count, kept = [0], {name: getattr(distributed, name) for name in COLLECTIVES}

    def count_calls(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            count[0] += 1
            return function(*arguments, **named)

        return call

    for name, function in kept.items():
        setattr(distributed, name, count_calls(function))
    work()
    for name, function in kept.items():
        setattr(distributed, name, function)
    return count[0]


def links(ranks: int) -> dict[str, Link]:
    """Measure bandwidth and latency by clock."""
    if ranks == 1:
        return dict.fromkeys(CLOCKS, Link(bytes_per_second=1e12, seconds=0))
    short, long = torch.zeros(4), torch.zeros(LARGE)
    least = timed(lambda: distributed.all_reduce(short), 15)
    most = timed(lambda: distributed.all_reduce(long), 5)
    waits = 2 * min(ranks - 1, (ranks - 1).bit_length())  # as the prediction counts them
    content = 2 * (ranks - 1) / ranks * 4 * LARGE
    return {
        name: Link(
            bytes_per_second=content / max(most[name] - least[name], 1e-6), seconds=least[name] / waits
        )
        for name in CLOCKS
    }


def measure(processes: Processes) -> dict[str, Any]:
    """Measure and predict steps on these ranks."""
    torch.set_num_threads(1)
    resolved = read_recipe([RECIPE], [("training.precision", "fp32"), ("data.num_workers", 0)])
    recipe, ranks = resolved.recipe, processes.count
    grown = recipe.model_copy(update={"data": scale_batches(recipe.data, ranks)})
    alone = Stepper(recipe, assemble(recipe, lambda message: None, ALONE)[0], 0)
    joint = Stepper(grown, assemble(grown, lambda message: None, processes)[0], 0)
    own, shared = next(alone.batches.iterate(0)), next(joint.batches.iterate(0))
    alone.step(own)
    joint.step(shared)
    exchanges = counted(lambda: joint.step(shared)) if ranks > 1 else 0
    found_links = links(ranks)
    steps: dict[str, list[dict[str, float]]] = {"alone": [], "joint": []}
    for _ in range(ROUNDS):
        steps["alone"].append(timed(lambda: alone.step(own), 1))
        steps["joint"].append(timed(lambda: joint.step(shared), 1))
    work = workload_of(resolved).grown(ranks)
    result: dict[str, Any] = {"ranks": ranks, "messages": exchanges}
    for clock in CLOCKS:
        one = median(step[clock] for step in steps["alone"])
        hardware = Hardware(
            sources="measured",
            flops=work.flops / ranks / one,
            devices_per_node=64,
            inside=found_links[clock],
            between=found_links[clock],
            overlap=0,  # the processors that sum gradients are those that compute
            cores=1,
            images_per_core=1e9,
            disk=1e12,
        )

        predicted = predict(replace(work, exchanges=exchanges), hardware, ranks)
        result[clock] = {
            "alone": one,
            "predicted": predicted.seconds,
            "measured": median(step[clock] for step in steps["joint"]),
            "pieces": {name: round(value, 4) for name, value in predicted._asdict().items()},
            "MB/s": round(found_links[clock].bytes_per_second / 1e6),
            "latency ms": round(1000 * found_links[clock].seconds, 2),
        }
    return result


def main() -> None:
    """Print a line for each number of ranks and clock."""
    with TemporaryDirectory() as folder:
        for ranks in RANKS:
            file = Path(folder) / f"{ranks}.json"
            done = torchrun(ranks, file, module="tests.benchmarks.scaling")
            if done.returncode:
                raise SystemExit(done.stderr)
            found = json.loads(file.read_text())
            for clock in CLOCKS:
                one = found[clock]
                print(
                    f"{ranks} ranks, {clock}: alone {one['alone']:.2f} s, predicted {one['predicted']:.2f} s, measured "
                    f"{one['measured']:.2f} s, ratio {one['predicted'] / one['measured']:.2f}; {one['MB/s']} MB/s, "
                    f"{one['latency ms']} ms a message, {found['messages']} messages",
                    flush=True,
                )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        with started_processes() as processes:
            result = measure(processes)
            if processes.is_rank_zero:
                Path(sys.argv[1]).write_text(json.dumps(result))
    else:
        main()
