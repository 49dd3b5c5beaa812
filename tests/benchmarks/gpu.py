"""The base model on a CUDA device: MFU, images a second, memory, and the plain formulation on the same card.

    python -m tests.benchmarks.gpu                      # all of it, on a machine with a CUDA device: make gpu
    python -m tests.benchmarks.gpu --device cpu --small # the same code in miniature

`official/x2vlm-base` at 224 pixels in bf16, with random weights and built-in scenes, so nothing is downloaded:

1. the step against the plain formulation of the official code, with equal losses;
2. the fastest batch size, and with it `x2kit bench`: as it is, compiled, and with activation checkpointing; a trace;
3. with several devices: the same on 1, 2, 4, ... ranks.

All numbers and the trace are written to a folder, runs/gpu by default.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks.paired import paired
from tests.benchmarks.plain_step import plain_losses, plain_rows, plain_twin
from tests.benchmarks.step_batch import ACTIVE, Task, make_task
from x2kit.cli.bench.tables import as_json
from x2kit.data.pipeline.batch import PairedRows, to_device
from x2kit.model.device import autocast, use_matmul_precision
from x2kit.recipe import Recipe, read_recipe
from x2kit.training.profiling.batch_size import find_batch_size, free_memory, measure_in_process
from x2kit.training.profiling.bench import BenchResult, bench
from x2kit.training.profiling.costs import images_of
from x2kit.training.profiling.peaks import now, peak_memory, restart_peak_memory
from x2kit.training.step.losses import step_losses
from x2kit.training.step.plan import Negatives

RECIPE = ("official/x2vlm-base", "overlays/built-in-data")
SMALL: dict[str, object] = {
    f"model.{part}.init_args.{key}": value
    for part, settings in {
        "vision": {"image_size": 64, "width": 48, "depth": 2, "heads": 4},
        "text": {"layers": 2, "width": 32, "heads": 4, "vocab_size": 8000, "max_length": 40},
        "fusion": {"layers": 2, "heads": 4},
    }.items()
    for key, value in settings.items()
}
SMALL_STREAMS: dict[str, object] = {
    "data.streams.emoji_scenes.batch_size": 4,
    "data.streams.emoji_regions.batch_size": 4,
    "training.threads": 1,
}
VARIANTS: dict[str, dict[str, object]] = {
    "as it is": {},
    "compiled": {"training.compile": True},
    "activation checkpointing": {"training.activation_checkpointing": True},
}
TOLERANCE = 1e-4
"""Of losses in float32, absolute, and of the gradient norm, relative: kernels of a GPU sum in other orders."""
MFU_AIM, RATIO_AIM = 0.45, 2.5
Step = Callable[[], dict[str, Tensor]]


def steps_of(task: Task, device: torch.device, precision: str) -> tuple[Step, Step]:
    """Build the plain step and x2kit's step; both leave their gradients at the parameters."""
    twin = plain_twin(task.model)
    plain = {
        name: plain_rows(task.batch, rows, task.negatives[name])
        for name, rows in task.batch.streams.items()
        if isinstance(rows, PairedRows)
    }

    def plain_step() -> dict[str, Tensor]:
        with autocast(device, precision):
            found = {name: plain_losses(twin, rows) for name, rows in plain.items()}
        return _differentiate(task, found)

    def our_step() -> dict[str, Tensor]:
        with autocast(device, precision):
            found = step_losses(task.model, task.batch, ACTIVE, task.negatives)
        return _differentiate(task, found)

    return plain_step, our_step


def _differentiate(task: Task, losses: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    task.model.zero_grad(set_to_none=True)
    named = {f"{name}.{loss}": value for name, on in losses.items() for loss, value in on.items()}
    torch.stack([value.float() for value in named.values()]).sum().backward()
    return {name: value.detach() for name, value in named.items()}


def task_on(device: torch.device, images: int, settings: dict[str, object]) -> Task:
    """Build model and batch of the step benchmark on a device."""
    model, batch, negatives = make_task(images, settings)
    moved = {name: Negatives(rows.image.to(device), rows.text.to(device)) for name, rows in negatives.items()}
    return Task(model.to(device), to_device(batch, device), moved)


def differences(task: Task, plain: Step, ours: Step) -> tuple[float, float]:
    """Return the largest difference of the losses, and that of the gradient norms relative to them."""
    found = []
    for step in (plain, ours):
        losses = step()
        gradients = [p.grad for p in task.model.parameters() if p.grad is not None]
        found.append((losses, float(torch.stack([gradient.norm() for gradient in gradients]).norm())))
    (plain_losses, plain_norm), (our_losses, our_norm) = found
    if plain_losses.keys() != our_losses.keys():
        raise SystemExit("the steps have different losses")
    largest = max(abs(float(value - our_losses[name])) for name, value in plain_losses.items())
    return largest, abs(plain_norm - our_norm) / plain_norm


def against_plain(
    device: torch.device, precision: str, images: int, rounds: int, settings: dict[str, object]
) -> dict[str, Any]:
    """Compare with the plain formulation: equal losses in float32, then time and memory at the precision."""
    use_matmul_precision("fp32")
    task = task_on(device, images, settings)
    loss, norm = differences(task, *steps_of(task, device, "fp32"))
    if not (loss <= TOLERANCE and norm <= TOLERANCE):  # nor is NaN
        raise SystemExit(f"not equal: losses differ by {loss:.1e}, gradient norms by {norm:.1e} of the norm")
    use_matmul_precision(precision)
    plain, ours = steps_of(task, device, precision)
    rounded, _ = differences(task, plain, ours)
    memory = {}
    for name, step in (("plain", plain), ("x2kit", ours)):
        free_memory()
        restart_peak_memory(device)
        step()
        memory[name] = peak_memory(device)
    ratio = paired(plain, ours, rounds, clock=lambda: now(device))
    return {
        "images": images,
        "loss_difference_fp32": loss,
        "gradient_norm_difference_fp32": norm,
        "loss_difference": rounded,
        "plain_seconds": ratio.plain,
        "x2kit_seconds": ratio.ours,
        "ratio": ratio.value,
        "peak_memory_bytes": memory,
    }


def largest_that_fits(measure: Callable[[int], dict[str, Any]], images: int) -> dict[str, Any]:
    """Halve the images until the plain formulation fits into memory."""
    while True:
        try:
            return measure(images)
        except torch.OutOfMemoryError:
            if images == 1:
                raise
        images //= 2  # outside the handler, which holds the tensors of the failed step
        free_memory()


def recipe_with(keys: Mapping[str, object]) -> Recipe:
    """Read the recipe with further keys."""
    return read_recipe([*RECIPE], list(keys.items())).recipe


def images_a_second(recipe: Recipe, measured: BenchResult) -> float:
    """Return images that a step encodes, a second."""
    images = sum(map(images_of, recipe.data.streams.values()))
    return images * measured.steps / measured.run_seconds


def variants(
    keys: dict[str, object], names: list[str], steps: int, trace: Path
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure each variant of the recipe; a trace of the first one."""
    for name in names:
        free_memory()
        recipe = recipe_with(keys | VARIANTS[name])
        measured = bench(recipe, steps, trace=trace if name == names[0] else None)
        yield name, as_json(measured) | {"images_per_second": images_a_second(recipe, measured)}


def fastest_rows(keys: dict[str, object], steps: int) -> dict[str, object]:
    """Return the keys of the fastest batch size."""
    tried = dict(find_batch_size(measure_in_process(recipe_with(keys), steps)))
    if not tried:
        raise SystemExit("out of memory with the rows of the recipe")
    best = max(tried.values(), key=lambda measured: measured.samples)
    return {f"data.streams.{name}.batch_size": rows for name, rows in best.rows.items()}


def on_ranks(keys: Mapping[str, object], counts: list[int], steps: int) -> list[dict[str, Any]]:
    """Measure on several ranks, with the rows of one device for each of them."""
    found = []
    for count in counts:
        scaled = {
            k: v * count if k.endswith("batch_size") and isinstance(v, int) else v for k, v in keys.items()
        }
        options = [f"--{key}={json.dumps(value)}" for key, value in scaled.items()]
        command = [sys.executable, "-m", "x2kit", "bench", RECIPE[0], "--config", RECIPE[1], *options]
        command += ["--steps", str(steps), "--ranks", str(count), "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{count} ranks: exit status {done.returncode}")
        found.append(json.loads(done.stdout))
    return found


def variant_lines(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Format the variants, one a line."""
    for name, measured in found.items():
        phase = measured["phases"][-1]
        mfu = "not counted" if phase["mfu"] is None else f"{phase['mfu']:.1%}"
        yield (
            f"{name}: {measured['images_per_second']:.1f} images/s, {measured['samples_per_second']:.1f} samples/s, "
            f"MFU {mfu}, hardware utilisation {phase['hardware_utilisation']:.1%}, "
            f"data {phase['shares']['data']:.1%}, peak memory {measured['peak_memory_bytes'] / 2**30:.2f} GiB"
        )


def plain_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Format the comparison with the plain formulation."""
    memory = {name: size / 2**30 for name, size in found["peak_memory_bytes"].items()}
    yield f"{found['images']} images, each with 2 captions and 4 regions"
    yield (
        f"float32: losses differ by {found['loss_difference_fp32']:.1e}, gradient norms by "
        f"{found['gradient_norm_difference_fp32']:.1e} of the norm; timed precision: losses by "
        f"{found['loss_difference']:.1e}"
    )
    yield f"peak memory: plain {memory['plain']:.2f} GiB, x2kit {memory['x2kit']:.2f} GiB"
    plain, ours = (min(found[f"{name}_seconds"]) for name in ("plain", "x2kit"))
    yield f"plain: {plain:.3f} s, x2kit: {ours:.3f} s, best of {len(found['plain_seconds'])}"
    yield f"ratio: {found['ratio']:.2f} (aim: {RATIO_AIM})"


def rank_lines(found: list[dict[str, Any]]) -> Iterator[str]:
    """Format the ranks, one number a line; each rank has as many rows as one alone."""
    first = found[0]
    for measured in found:
        each = measured["samples_per_second"] / measured["ranks"]
        efficiency = each / (first["samples_per_second"] / first["ranks"])
        communication = measured["phases"][-1]["shares"]["communication"]
        yield (
            f"{measured['ranks']} ranks: {measured['samples_per_second']:.1f} samples/s, efficiency {efficiency:.0%}, "
            f"communication {communication:.1%}"
        )


def device_line(device: torch.device) -> str:
    """Describe card and versions."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    return f"{count} × {card}; torch {torch.__version__}, CUDA {torch.version.cuda}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="a tiny model and few rows, to try this program")
    parser.add_argument(
        "--images", type=int, default=64, help="of the step beside the plain formulation, at most"
    )
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each run")
    parser.add_argument(
        "--rounds", type=int, default=6, help="pairs of timed steps beside the plain formulation"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"), help="folder of numbers and trace")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "no CUDA device: this benchmark measures one; on a CPU try its code by --device cpu --small"
        )
    measure(device, options)


def measure(device: torch.device, options: argparse.Namespace) -> None:
    """Measure all, print it as it comes, and write the numbers."""
    small, precision = options.small, "bf16" if device.type == "cuda" else "fp32"
    settings = SMALL if small else {}
    keys = settings | {"training.device": str(device), "training.precision": precision}
    keys |= SMALL_STREAMS if small else {"data.num_workers": os.cpu_count() or 1}
    results: dict[str, Any] = {"device": device_line(device), "precision": precision}

    def show(title: str, lines: Iterator[str]) -> None:
        print(f"{title}\n" + "".join(f"  {line}\n" for line in lines), flush=True)

    print(f"{results['device']}, {precision}\n", flush=True)
    results["plain"] = largest_that_fits(
        lambda images: against_plain(device, precision, images, options.rounds, dict(settings)),
        options.images,
    )
    show("step against the plain formulation", plain_lines(results["plain"]))
    if not small:
        keys |= fastest_rows(keys, options.steps)
    names = [name for name in VARIANTS if not (small and name == "compiled")]  # compiling takes a minute
    results["variants"] = dict(variants(keys, names, options.steps, options.output / "trace"))
    rows = ", ".join(f"{name} {count}" for name, count in results["variants"][names[0]]["rows"].items())
    show(f"x2kit bench, rows per step: {rows} (aim: MFU {MFU_AIM:.0%})", variant_lines(results["variants"]))
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        counts = [2**power for power in range(torch.cuda.device_count().bit_length())]
        results["ranks"] = on_ranks(keys, counts, options.steps)
        show("ranks, each with these rows", rank_lines(results["ranks"]))
    options.output.mkdir(parents=True, exist_ok=True)
    file = options.output / "gpu.json"
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"all numbers: {file}; trace: {options.output / 'trace'}")


if __name__ == "__main__":
    main()
