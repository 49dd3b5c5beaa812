"""Measure time and memory of a recipe's training steps, part by part. Imports torch.

A few steps of each phase of the recipe run from fresh weights, on one rank or on all of a run. The device is waited for
before the first and after the last timed step alone. No files are written, but for a trace if one is wanted, and
features where the recipe caches them, which training then finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from x2kit.data.config import DataConfig, Phase, loss_phases
from x2kit.data.pipeline.batch import Batch
from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import X2KitError
from x2kit.model import X2VLM
from x2kit.model.device import describe_device
from x2kit.training.feature_cache import with_cached_features
from x2kit.training.profiling.costs import count_operations, meta_copy
from x2kit.training.profiling.peaks import (
    datasheet_peak,
    matmul_peak,
    now,
    peak_memory,
    restart_peak_memory,
    total_memory,
)
from x2kit.training.profiling.ranges import PREFIX, Timeline, measured_ranges, replaced
from x2kit.training.profiling.useful import UsefulCounter
from x2kit.training.step.encoder_passes import clean_texts
from x2kit.training.stepper import Recipe, Stepper, assemble

WARM_UP = 1
"""Untimed steps at the start of a phase: the first steps allocate memory and choose kernels."""
TRACED = 2
"""Steps in a trace: enough to see how one follows another, and files of a few megabytes."""


class PhaseResult(NamedTuple):
    """Cost of a step in a phase of the run, over all ranks.

    Attributes:
        phase: steps and losses.
        seconds: per step, data included; of the slowest rank.
        samples: records a second.
        tokens: text tokens a second, without padding.
        padding: share of the text tokens that is padding.
        shares: of the time, by part; they sum to 1. The mean of the ranks.
        executed: floating-point operations a step; counted by `count_operations`.
        useful: those without padding and recomputation; None if they could not be counted.
        memory: peak in bytes: of the device, or on a CPU of the process so far; of the rank with most.
    """

    phase: Phase
    seconds: float
    samples: float
    tokens: float
    padding: float
    shares: dict[str, float]
    executed: float
    useful: float | None
    memory: int


class BenchResult(NamedTuple):
    """Cost of a run.

    Attributes:
        device: description, with the precision.
        ranks: number of them.
        rows: texts and pairs per step, by stream, of all ranks.
        phases: at least one, in order.
        matmul: floating-point operations a second of large matrix products, on all ranks at once.
        datasheet: the same by the datasheets of the cards; None if they are not known.
        capacity: memory in bytes that a rank may use.
        notes: for people.
    """

    device: str
    ranks: int
    rows: dict[str, int]
    phases: list[PhaseResult]
    matmul: float
    datasheet: float | None
    capacity: int
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.phases[-1].phase.stop

    @property
    def run_seconds(self) -> float:
        """Duration of all steps of the run, without start and checkpoints."""
        return sum(phase.seconds * phase.phase.steps for phase in self.phases)

    @property
    def samples(self) -> float:
        """Records a second over the whole run."""
        return self._over_run(lambda phase: phase.samples)

    @property
    def memory(self) -> int:
        """Largest peak in bytes."""
        return max(phase.memory for phase in self.phases)

    @property
    def peak(self) -> float:
        """Operations a second that utilisation compares with: of the datasheet if it is known, else measured."""
        return self.datasheet or self.matmul

    def share(self, part: str) -> float:
        """Share of the run's time in a part."""
        return self._over_run(lambda phase: phase.shares[part])

    def hardware_utilisation(self, phase: PhaseResult) -> float:
        """Share of the peak that the executed operations of a phase reach."""
        return phase.executed / phase.seconds / self.peak

    def mfu(self, phase: PhaseResult) -> float | None:
        """Share of the peak that the useful operations of a phase reach (model FLOPs utilisation)."""
        return None if phase.useful is None else phase.useful / phase.seconds / self.peak

    def _over_run(self, value: Callable[[PhaseResult], float]) -> float:
        weighted = (value(phase) * phase.seconds * phase.phase.steps for phase in self.phases)
        return sum(weighted) / self.run_seconds


def bench(recipe: Recipe, steps: int, processes: Processes = ALONE, trace: Path | None = None) -> BenchResult:
    """Time steps of each phase of a run; within a phase the same losses are on.

    Args:
        recipe: resolved, with at least one stream.
        steps: timed steps of each phase.
        processes: ranks of the run; all of them call this and have the same result.
        trace: folder for a trace of each phase and rank; None for none.
    Raises: X2KitError as training does, and for a folder that cannot be written.
    """
    config = recipe.training
    phases = loss_phases(recipe.data, config.steps)
    total, starts = _lengthen(recipe.data, config.steps, phases, WARM_UP + steps + 2 + TRACED)
    recipe = replace_sections(recipe, training=config.model_copy(update={"steps": total}))
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    metas: list[X2VLM] = []
    notes: list[str] = []
    parts, _ = assemble(recipe, lambda message: None, processes, partial(_keep_meta_copy, metas, notes))
    stepper = Stepper(recipe, with_cached_features(recipe, parts, notes.append), 0)
    bench = _Bench(stepper, steps, metas[0] if metas else None, notes)
    measured = []
    for phase, stepper.done in zip(phases, starts, strict=True):
        measured.append(bench.measure(phase))
    if trace is not None:
        for number, stepper.done in enumerate(starts, 1):
            bench.trace(trace, f"phase-{number}")
    processes.wait()  # so that all ranks measure at once, as they train
    datasheet = datasheet_peak(parts.device, stepper.precision)
    return BenchResult(
        describe_device(parts.device, stepper.precision),
        processes.count,
        {name: stream.batch_size for name, stream in recipe.data.streams.items()},
        measured,
        sum(processes.gather(matmul_peak(parts.device, stepper.precision))),
        None if datasheet is None else datasheet * processes.count,
        total_memory(parts.device, processes.count),
        tuple(dict.fromkeys(notes)),
    )


def replace_sections(recipe: Recipe, **sections: Any) -> Recipe:
    """Return a recipe with other sections."""
    replaced: Recipe = recipe.model_copy(update=sections)  # type: ignore[attr-defined]
    return replaced


def _keep_meta_copy(metas: list[X2VLM], notes: list[str], model: X2VLM) -> None:
    """Copy a model, before it is sharded or compiled, for the count of useful operations."""
    try:
        metas.append(meta_copy(model))
    except Exception as error:  # noqa: BLE001 (an encoder of a plugin may not be copied)
        notes.append(_not_counted(error))


def _not_counted(error: Exception) -> str:
    """Describe why there is no count of useful operations."""
    reason = " ".join(str(error).split())
    return f"useful operations: not counted, as the meta device fails: {type(error).__name__}: {reason}"


def _lengthen(data: DataConfig, steps: int, phases: Sequence[Phase], needed: int) -> tuple[int, list[int]]:
    """Double a run until each phase has the steps needed. Returns: its steps, and the first step of each phase."""
    while True:
        longest = {phase.names: phase for phase in sorted(loss_phases(data, steps), key=lambda p: p.steps)}
        long = [longest[phase.names] for phase in phases]
        if min(phase.steps for phase in long) >= needed:
            return steps, [phase.start for phase in long]
        steps *= 2


class _Bench:
    """Measure the steps of a stepper from `stepper.done` on."""

    def __init__(self, stepper: Stepper, steps: int, meta: X2VLM | None, notes: list[str]) -> None:
        self._stepper, self._steps, self._notes = stepper, steps, notes
        self._useful = None if meta is None else UsefulCounter(stepper.model, meta)
        self._device, self._processes = stepper.device, stepper.processes
        self._timeline = Timeline(self._device)

    def measure(self, phase: Phase) -> PhaseResult:
        """Time the steps, then count the operations of two more; collective."""
        restart_peak_memory(self._device)
        source = self._stepper.feed()
        samples, tokens = 0, torch.zeros(2, dtype=torch.int64)
        with measured_ranges(self._stepper, self._timeline):
            for _ in range(WARM_UP):
                self._step(next(source)[1])
            self._processes.wait()
            start = now(self._device)
            self._timeline.start()
            for _ in range(self._steps):
                with self._timeline.part("data"):
                    batch, on_device = next(source)
                samples += sum(map(len, batch.records.values()))
                tokens += _count_tokens(batch)
                self._step(on_device)
            seconds = now(self._device) - start
            spent = self._timeline.seconds()
        memory = peak_memory(self._device)
        with count_operations() as counter:
            self._step(next(source)[1])
        executed = counter.get_total_flops()
        useful = self._count_useful(next(source)[1])
        source.close()
        return self._of_all_ranks(phase, seconds, samples, tokens, spent, (executed, useful), memory)

    def _of_all_ranks(
        self,
        phase: Phase,
        seconds: float,
        samples: int,
        tokens: torch.Tensor,
        spent: dict[str, float],
        operations: tuple[int, int | None],
        memory: int,
    ) -> PhaseResult:
        """Join the measurements of the ranks; each knows all records of a step, and the tokens of its own rows."""
        total = sum(spent.values())
        shares = {part: time_in / total for part, time_in in spent.items()}
        gathered = self._processes.gather((seconds, tokens.tolist(), shares, operations, memory))
        times, counts, all_shares, all_operations, memories = zip(*gathered, strict=True)
        seconds, kept = max(times), sum(count[0] for count in counts)
        executed, useful = zip(*all_operations, strict=True)
        return PhaseResult(
            phase,
            seconds / self._steps,
            samples / seconds,
            kept / seconds,
            1 - kept / max(1, sum(count[1] for count in counts)),
            {part: sum(one[part] for one in all_shares) / len(all_shares) for part in spent},
            sum(executed),
            None if None in useful else sum(useful),
            max(memories),
        )

    def trace(self, folder: Path, name: str) -> None:
        """Write a trace of some steps of this rank: FOLDER/NAME-rank-R.json.gz; collective."""
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self._device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        source = self._stepper.feed()
        with measured_ranges(self._stepper, self._timeline):
            for _ in range(WARM_UP):
                self._step(next(source)[1])
            self._processes.wait()
            with torch.profiler.profile(activities=activities) as profile:
                for _ in range(TRACED):
                    with torch.profiler.record_function(PREFIX + "step"):
                        with self._timeline.part("data"):
                            _, on_device = next(source)
                        self._step(on_device)
                now(self._device)
        source.close()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            profile.export_chrome_trace(str(folder / f"{name}-rank-{self._processes.rank}.json.gz"))
        except OSError as error:
            raise X2KitError(f"--trace: cannot write to {folder}: {error}") from error

    def _step(self, batch: Batch) -> None:
        self._stepper.step(batch)
        self._stepper.done += 1

    def _count_useful(self, batch: Batch) -> int | None:
        """Count the useful operations of a step; None if a part of the model fails on the meta device."""
        if self._useful is None:
            return None
        try:
            return self._useful.operations(partial(self._forward, batch))
        except Exception as error:  # noqa: BLE001 (an encoder of a plugin may fail on meta tensors)
            self._notes.append(_not_counted(error))
            return None

    def _forward(self, batch: Batch) -> None:
        """Run the forward pass of a step alone and in one part, with the collectives that it has."""
        stepper = self._stepper
        training = stepper.recipe.training.model_copy(update={"accumulation": 1})
        with (
            replaced(stepper, "recipe", replace_sections(stepper.recipe, training=training)),
            replaced(stepper, "backward", lambda total: None),
            replaced(torch.autograd, "backward", lambda *_, **__: None),  # of DDP's zeros
        ):
            stepper.differentiate(batch)


def _count_tokens(batch: Batch) -> torch.Tensor:
    """Count the tokens of the texts without and with padding: [2] int64."""
    counts = torch.zeros(2, dtype=torch.int64)
    for rows in batch.streams.values():
        for texts in clean_texts(rows):
            # A mask per token hides padding on its diagonal.
            mask = texts.mask if texts.positions is None else texts.mask.diagonal(dim1=1, dim2=2)
            counts += torch.tensor([int(mask.sum()), mask.numel()])
    return counts
