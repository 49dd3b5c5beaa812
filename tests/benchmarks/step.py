"""Compare the training step with the plain formulation: `python -m tests.benchmarks.step`.

Base size, float32, 12 image-texts and 24 region-texts: losses forward and backward, equal hard negatives and masks.
Dropout is off, as its draws could not be equal. The optimiser is left out: it is the same. Two cases are measured:

shared    both streams show the same 6 images, as with `images_from`: x2kit encodes 6, the plain way one for each
          image-text and 6 for the regions, 18.
distinct  every image-text has an image of its own and the regions are of 6 others: both ways encode 18. This is the
          case of two sources, and of a set with one caption an image.

spread    as shared, with lengths of real captions (13 tokens on average, up to 40) and names of regions.

In all the plain way pads texts to 40 tokens, encodes them once for each loss, copies patches to rows and writes
attention out. It stands in for the official code, which is not part of this repository.

Beside the plain way, x2kit is timed against its own step with texts padded to the longest of their stream, and
against the time that the useful operations (of a step without any padding) take at the speed of a matrix product.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from statistics import median
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.memory import peak_memory
from tests.benchmarks.paired import paired
from tests.benchmarks.plain_step import plain_losses, plain_rows, plain_twin
from tests.benchmarks.step_batch import ACTIVE, SPREAD, Task, make_task
from x2kit.model import X2VLM, packing
from x2kit.model.device import autocast, choose_precision
from x2kit.training.profiling.costs import count_operations
from x2kit.training.step import encoder_passes, fusion_pass
from x2kit.training.step.losses import step_losses

IMAGES = 6
TOLERANCE = 1e-5
"""Of losses, absolute; of gradients, relative to their norm."""
CPU = torch.device("cpu")

Step = Callable[[], dict[str, Tensor]]
"""Leaves its gradients at the parameters and gives the losses."""


class Found(NamedTuple):
    """Losses, the gradient of every parameter, and floating-point operations of one step."""

    losses: dict[str, Tensor]
    gradients: dict[str, Tensor]
    operations: int


@contextmanager
def _without_packing(model: X2VLM, **patches: object) -> Iterator[None]:
    modules = {"row_lengths": (encoder_passes, fusion_pass), "CALL_TOKENS": (packing,)}
    with ExitStack() as stack:
        for encoder in (model.text, model.fusion):
            stack.enter_context(patch.object(encoder, "packs", False))
        for name, value in patches.items():
            for module in modules[name]:
                stack.enter_context(patch.object(module, name, value))
        yield


def padded(model: X2VLM) -> AbstractContextManager[None]:
    """Pad texts to the longest of their stream: x2kit's form until packing."""
    return _without_packing(model, row_lengths=lambda mask, _: np.full(len(mask), mask.shape[1]))


def one_call_a_length(model: X2VLM) -> AbstractContextManager[None]:
    """Pad no text at all, for a count of the useful operations."""
    return _without_packing(model, CALL_TOKENS={"cpu": 0})


def our_step(
    task: Task,
    precision: str = "fp32",
    form: Callable[[X2VLM], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Step:
    """Build x2kit's step."""

    def step() -> dict[str, Tensor]:
        with autocast(CPU, precision), form(task.model):
            found = step_losses(task.model, task.batch, ACTIVE, task.negatives)
        return _differentiate(
            task, {f"{name}.{loss}": value for name, on in found.items() for loss, value in on.items()}
        )

    return step


def plain_step(task: Task) -> Step:
    """Build the plain step; rows are laid out beforehand, as by a data loader."""
    twin = plain_twin(task.model)
    streams = {
        name: plain_rows(task.batch, rows, task.negatives[name]) for name, rows in task.batch.streams.items()
    }

    def step() -> dict[str, Tensor]:
        return _differentiate(
            task,
            {
                f"{name}.{loss}": value
                for name, rows in streams.items()
                for loss, value in plain_losses(twin, rows).items()
            },
        )

    return step


STEPS: dict[str, Callable[[Task], Step]] = {"plain": plain_step, "x2kit": our_step}
CASES: dict[str, tuple[bool, str | None]] = {
    "shared": (True, None),
    "distinct": (False, None),
    "spread": (True, SPREAD),
}
"""Whether streams share images, and the lengths of texts."""


def _differentiate(task: Task, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    task.model.zero_grad(set_to_none=True)
    torch.stack(list(losses.values())).sum().backward()
    return {name: value.detach() for name, value in losses.items()}


def look(task: Task, step: Step) -> Found:
    """Run a step once and keep losses, gradients and operations."""
    with count_operations() as counter:
        losses = step()
    gradients = {n: p.grad.clone() for n, p in task.model.named_parameters() if p.grad is not None}
    return Found(losses, gradients, counter.get_total_flops())


def require_equal(plain: Found, ours: Found) -> list[str]:
    """Describe the largest differences. Raises SystemExit for one above the tolerance."""
    if plain.losses.keys() != ours.losses.keys() or plain.gradients.keys() != ours.gradients.keys():
        raise SystemExit("the steps have different losses, or gradients of different parameters")
    loss = max(abs(float(plain.losses[n] - ours.losses[n])) for n in plain.losses)
    norms = [torch.stack([g.norm() for g in found.gradients.values()]).norm() for found in (plain, ours)]
    norm = float((norms[0] - norms[1]).abs() / norms[0])
    apart = torch.stack([(plain.gradients[n] - ours.gradients[n]).norm() for n in plain.gradients]).norm()
    gradient = float(apart / norms[0])
    lines = [
        f"losses: {len(plain.losses)}, largest difference {loss:.1e}",
        f"gradients: of {len(plain.gradients)} parameters, norms differ by {norm:.1e} of the norm, "
        f"elements by {gradient:.1e}",
    ]
    if not all(difference <= TOLERANCE for difference in (loss, norm, gradient)):  # nor is NaN
        raise SystemExit("\n".join([*lines, f"not equal: above {TOLERANCE:.0e}"]))
    return lines


def run_once(name: str, images: int, threads: int, case: str) -> None:
    """Run one step in a fresh process, for its peak memory."""
    torch.set_num_threads(threads)
    shared, tokens = CASES[case]
    STEPS[name](make_task(images, tokens=tokens, shared=shared))()


def memory_line(images: int, threads: int, case: str) -> str:
    """Measure peak memory of each step in a fresh process. Raises SystemExit if x2kit needs more."""
    peaks = {name: peak_memory(run_once, name, images, threads, case) / 2**30 for name in STEPS}
    if peaks["x2kit"] > peaks["plain"]:
        raise SystemExit("x2kit needs more memory than the plain formulation")
    return f"peak memory: plain {peaks['plain']:.2f} GiB, x2kit {peaks['x2kit']:.2f} GiB"


def clock_of(threads: int) -> Callable[[], float]:
    """Time one thread in processor seconds, which other programs do not lengthen."""
    return time.process_time if threads == 1 else time.perf_counter


def bf16_line(task: Task, rounds: int, clock: Callable[[], float], forced: bool) -> str:
    """Time x2kit under bf16 autocast against the plain formulation in float32."""
    if not forced and choose_precision("auto", CPU) != "bf16":
        return "bf16: not timed, this processor has no instructions for it (--bf16 times it all the same)"
    ratio = paired(plain_step(task), our_step(task, "bf16"), rounds, clock=clock)
    return f"bf16: x2kit under autocast is {ratio.value:.2f} times as fast as plain float32"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2, help="pairs of timed steps")
    parser.add_argument("--images", type=int, default=IMAGES, help="each with 2 captions and 4 regions")
    parser.add_argument("--bf16", action="store_true", help="time bf16 even where the processor lacks it")
    parser.add_argument("--ratio-only", action="store_true", help="leave out peak memory and bf16")
    parser.add_argument("--skip-plain", action="store_true", help="do not time the plain formulation")
    parser.add_argument("--case", choices=[*CASES], help="only this one")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for case in [options.case] if options.case else CASES:
        print(f"{case} images")
        measure(case, options)
        print()


def matrix_product_speed(clock: Callable[[], float], seconds: float = 2.0) -> float:
    """Measure floating-point operations a second of a float32 product of the model's sizes, in this process."""
    left, right = torch.rand(1024, 768), torch.rand(768, 3072)
    times: list[float] = []
    while sum(times) < seconds:
        start = clock()
        for _ in range(10):
            left @ right
        times.append(clock() - start)
    return 10 * 2 * 1024 * 768 * 3072 / median(times)


def measure(case: str, options: argparse.Namespace) -> None:
    """Compare and time the steps on one kind of batch."""
    shared, tokens = CASES[case]
    if not options.ratio_only:  # first, while this process holds nothing itself
        print(memory_line(options.images, options.threads, case), flush=True)
    task = make_task(options.images, tokens=tokens, shared=shared)
    plain, ours, before = plain_step(task), our_step(task), our_step(task, form=padded)
    found = look(task, plain), look(task, ours)
    for line in require_equal(*found):
        print(line, flush=True)
    useful = look(task, our_step(task, form=one_call_a_length)).operations
    counts = [found[0].operations, look(task, before).operations, found[1].operations, useful]
    print(
        "arithmetic: plain {:.2f} TFLOP, padded {:.2f}, x2kit {:.2f}, useful {:.2f}; ".format(
            *(count / 1e12 for count in counts)
        )
        + f"at most {counts[0] / counts[2]:.2f} times as fast as plain",
        flush=True,
    )
    del found
    clock = clock_of(options.threads)
    speed = matrix_product_speed(clock)
    if not options.skip_plain:
        print("\n".join(paired(plain, ours, options.rounds, 0, clock).lines()), flush=True)
    if not options.ratio_only:
        print(bf16_line(task, options.rounds, clock, options.bf16), flush=True)
    ratio = paired(before, ours, options.rounds, 0, clock)
    print(
        f"padded: {median(ratio.plain):.3f} s, x2kit {median(ratio.ours):.3f} s, ratio {ratio.value:.2f}\n"
        f"matrix product: {speed / 1e9:.1f} GFLOP/s; x2kit takes {median(ratio.ours) * speed / useful:.2f} times, "
        f"padded {median(ratio.plain) * speed / useful:.2f} times the time of the useful operations",
        flush=True,
    )


if __name__ == "__main__":
    main()
