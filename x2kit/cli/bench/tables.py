"""Format the results of `x2kit bench` as tables, notes and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from x2kit.training.profiling.bench import BenchResult, PhaseResult


def as_json(measured: BenchResult) -> dict[str, Any]:
    """Return every number; `docs/how-to/measure-speed.md` describes the fields."""
    return {
        "device": measured.device,
        "ranks": measured.ranks,
        "rows": measured.rows,
        "run_seconds": measured.run_seconds,
        "samples_per_second": measured.samples,
        "matmul_flops_per_second": measured.matmul,
        "datasheet_flops_per_second": measured.datasheet,
        "peak_memory_bytes": measured.memory,
        "notes": list(measured.notes),
        "phases": [
            {
                "first_step": one.phase.start + 1,
                "last_step": one.phase.stop,
                "losses": list(one.phase.names),
                "seconds_per_step": one.seconds,
                "samples_per_second": one.samples,
                "tokens_per_second": one.tokens,
                "padding_share": one.padding,
                "shares": one.shares,
                "flops_per_step": one.executed,
                "useful_flops_per_step": one.useful,
                "mfu": measured.mfu(one),
                "hardware_utilisation": measured.hardware_utilisation(one),
                "peak_memory_bytes": one.memory,
            }
            for one in measured.phases
        ],
    }


def table(measured: BenchResult) -> Table:
    """Show a step of each phase."""
    phases = measured.phases
    columns = [f"steps {one.phase.start + 1}-{one.phase.stop}" for one in phases]
    title = measured.device if measured.ranks == 1 else f"{measured.ranks} ranks, each {measured.device}"
    shown = Table("measure", *(columns if len(phases) > 1 else ["value"]), title=title)
    shown.add_row("seconds per step", *(f"{one.seconds:.3g}" for one in phases))
    shown.add_row("samples/s", *(f"{one.samples:.1f}" for one in phases))
    shown.add_row("tokens/s", *(f"{one.tokens:.0f}" for one in phases))
    for part in phases[0].shares:
        if part != "communication" or measured.ranks > 1:
            shown.add_row(f"  {part}", *(f"{one.shares[part]:.1%}" for one in phases))
    shown.add_row("padding of texts", *(f"{one.padding:.0%}" for one in phases))
    shown.add_row("GFLOP per step", *(f"{one.executed / 1e9:.4g}" for one in phases))
    shown.add_row("  of it useful", *(_useful(one) for one in phases))
    shown.add_row("MFU", *(_percent(measured.mfu(one)) for one in phases))
    shown.add_row("hardware utilisation", *(_percent(measured.hardware_utilisation(one)) for one in phases))
    shown.add_row("peak memory", *(_mebibytes(one.memory) for one in phases))
    return shown


def ranks_table(measured: Sequence[BenchResult]) -> Table:
    """Show how the speed grows with the ranks; the rows of a step are the same for all."""
    first = measured[0]
    shown = Table(
        "ranks",
        "s/step",
        "samples/s",
        "efficiency",
        "communication",
        "MFU",
        "memory",
        title=first.device,
    )
    for one in measured:
        efficiency = one.samples / one.ranks / (first.samples / first.ranks)
        last = one.phases[-1]
        shown.add_row(
            str(one.ranks),
            f"{one.run_seconds / one.steps:.3g}",
            f"{one.samples:.1f}",
            f"{efficiency:.0%}",
            f"{one.share('communication'):.1%}",
            _percent(one.mfu(last)),
            _mebibytes(one.memory),
        )
    return shown


def sizes_table(tried: dict[int, BenchResult], best: int) -> Table:
    """Show the batch sizes that were tried."""
    shown = Table("batches", "samples/s", "peak memory", "")
    for factor, measured in tried.items():
        mark = "best" if factor == best else ""
        shown.add_row(f"× {factor}", f"{measured.samples:.1f}", _mebibytes(measured.memory), mark)
    return shown


def notes(measured: BenchResult) -> Iterator[str]:
    """Yield the notes below a table: batch, peak, losses that each phase changes, run time."""
    yield f"rows per step: {', '.join(f'{name} {rows}' for name, rows in measured.rows.items())}"
    peak = f"{measured.matmul / 1e9:.1f} GFLOP/s of a large matrix product"
    if measured.datasheet is None:
        yield f"peak: {peak}"
    else:
        yield f"peak: {measured.datasheet / 1e9:.0f} GFLOP/s of the datasheet; {peak}"
    for before, one in pairwise(measured.phases):
        for verb, names in (("starts", _only_in(one, before)), ("stops", _only_in(before, one))):
            if names:
                yield f"step {one.phase.start + 1} {verb} {', '.join(names)}"
    yield f"run: {measured.steps} steps in about {measured.run_seconds / 60:.1f} minutes"
    yield from measured.notes


def _only_in(one: PhaseResult, other: PhaseResult) -> list[str]:
    return [name for name in one.phase.names if name not in other.phase.names]


def _useful(phase: PhaseResult) -> str:
    return "not counted" if phase.useful is None else f"{phase.useful / phase.executed:.0%}"


def _percent(share: float | None) -> str:
    return "not counted" if share is None else f"{share:.1%}"


def _mebibytes(memory: int) -> str:
    return f"{memory / 2**20:.0f} MiB"
