"""`x2kit bench` shows what was measured, as a table and as JSON; the measuring is a stub here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]


class Phase(NamedTuple):
    start: int
    stop: int
    names: tuple[str, ...]


class PhaseResult(NamedTuple):
    phase: Phase
    seconds: float = 0.5
    samples: float = 16.0
    tokens: float = 128.0
    padding: float = 0.5
    shares: Mapping[str, float] = {"data": 0.25, "communication": 0.25, "backward": 0.5}
    executed: float = 3e10
    useful: float | None = 1.5e10
    memory: int = 2**20


PHASES = [
    PhaseResult(Phase(0, 140, ("scenes.itc",))),
    PhaseResult(Phase(140, 200, ("scenes.itc", "scenes.itm")), seconds=1.5),
]


class BenchResult(NamedTuple):
    device: str = "cpu, fp32"
    ranks: int = 1
    rows: Mapping[str, int] = {"scenes": 8}
    phases: list[PhaseResult] = PHASES
    matmul: float = 4e10
    datasheet: float | None = None
    notes: tuple[str, ...] = ()
    run_seconds: float = 160.0
    steps: int = 200
    samples: float = 16.0
    memory: int = 2**20

    def share(self, part: str) -> float:
        return 0.25

    def mfu(self, one: PhaseResult) -> float | None:
        return None if one.useful is None else 0.375

    def hardware_utilisation(self, one: PhaseResult) -> float:
        return 0.75


class Asked(NamedTuple):
    """A call: ranks (0 for those of this process), timed steps, factor of the batches."""

    ranks: int
    steps: int
    factor: int = 1


SPEEDS = {1: 16.0, 2: 20.0, 4: 19.0}


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Asked]:
    """The calls of the stubs that replace the measuring."""
    record: list[Asked] = []

    def measure(options: Any, processes: Any) -> BenchResult:
        record.append(Asked(0, options.steps))
        return BenchResult()

    def measure_on(count: int, options: Any, *, share: int | None = None) -> BenchResult:
        record.append(Asked(count, options.steps))
        return BenchResult(ranks=count, samples=16.0 * count**0.5)

    def measured_sizes(ranks: int, steps: int) -> Callable[[int], BenchResult]:
        def measure_size(factor: int) -> BenchResult:
            record.append(Asked(ranks, steps, factor))
            return BenchResult(rows={"scenes": 8 * factor}, samples=SPEEDS[factor])

        return measure_size

    def find_batch_size(measure_size: Callable[[int], BenchResult]) -> Iterator[tuple[int, BenchResult]]:
        return ((factor, measure_size(factor)) for factor in SPEEDS)

    ranks = ModuleType("x2kit.cli.bench.ranks")
    ranks.__dict__.update(
        measure=measure,
        measure_on=measure_on,
        fitting_on=lambda count, options: measured_sizes(count, options.steps),
    )
    sizes = ModuleType("x2kit.training.profiling.batch_size")
    sizes.__dict__.update(
        find_batch_size=find_batch_size,
        measure_in_process=lambda recipe, steps, processes: measured_sizes(0, steps),
    )
    monkeypatch.setitem(sys.modules, ranks.__name__, ranks)
    monkeypatch.setitem(sys.modules, sizes.__name__, sizes)
    return record


def test_the_table_has_speed_shares_utilisation_and_memory(x2kit: Run, asked: list[Asked]) -> None:
    done = x2kit("bench", "good.yaml", "--training.steps=200", "--steps", "3")
    assert (done.status, done.err) == (0, "")
    assert asked == [Asked(0, 3)]
    shown = (
        "cpu, fp32",
        "samples/s",
        "16.0",
        "data",
        "25.0%",
        "backward",
        "50.0%",
        "75.0%",
        "37.5%",
        "1 MiB",
    )
    assert not [text for text in shown if text not in done.out]
    assert "communication" not in done.out  # of one rank


def test_every_phase_of_losses_has_a_column_and_the_run_a_time(x2kit: Run) -> None:
    done = x2kit("bench", "good.yaml")
    assert "steps 1-140" in done.out
    assert "steps 141-200" in done.out
    assert "step 141 starts scenes.itm" in done.out
    assert "200 steps in about 2.7 minutes" in done.out


def test_json_has_every_number_and_the_docs_every_field(x2kit: Run) -> None:
    found = json.loads(x2kit("bench", "good.yaml", "--json").out)
    assert found["run_seconds"] == 160
    assert found["peak_memory_bytes"] == 2**20
    second = found["phases"][1]
    assert (second["first_step"], second["last_step"], second["losses"]) == (
        141,
        200,
        ["scenes.itc", "scenes.itm"],
    )
    assert second["shares"]["data"] == 0.25
    assert (second["mfu"], second["hardware_utilisation"]) == (0.375, 0.75)
    page = (ROOT / "docs/how-to/measure-speed.md").read_text(encoding="utf-8")
    fields = [*found, *(f"phases[].{field}" for field in second)]
    assert not [field for field in fields if f"| `{field}` |" not in page]


def test_ranks_of_one_number_have_a_table_with_communication(x2kit: Run, asked: list[Asked]) -> None:
    done = x2kit("bench", "good.yaml", "--ranks", "4")
    assert asked == [Asked(4, 5)]
    assert "4 ranks, each cpu, fp32" in done.out
    assert "communication" in done.out


def test_ranks_of_several_numbers_are_compared_with_the_first(x2kit: Run, asked: list[Asked]) -> None:
    done = x2kit("bench", "good.yaml", "--ranks", "1,4")
    assert asked == [Asked(1, 5), Asked(4, 5)]
    (line,) = [line for line in done.out.splitlines() if line.startswith("│ 4")]
    assert "32.0" in line
    assert "50%" in line
    found = json.loads(x2kit("bench", "good.yaml", "--ranks", "1,4", "--json").out)
    assert [one["ranks"] for one in found["ranks"]] == [1, 4]


def test_the_batch_size_that_is_fastest_is_named_as_recipe_keys(x2kit: Run, asked: list[Asked]) -> None:
    done = x2kit("bench", "good.yaml", "--find-batch-size")
    assert done.out.endswith("--data.streams.scenes.batch_size 16\n")
    assert asked == [Asked(0, 5, 1), Asked(0, 5, 2), Asked(0, 5, 4)]
    assert json.loads(x2kit("bench", "good.yaml", "--find-batch-size", "--json").out)["best"] == 2


def test_batch_sizes_of_several_ranks_are_measured_on_new_ranks(x2kit: Run, asked: list[Asked]) -> None:
    assert x2kit("bench", "good.yaml", "--find-batch-size", "--ranks", "2").status == 0
    assert asked == [Asked(2, 5, 1), Asked(2, 5, 2), Asked(2, 5, 4)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--steps", "0"], "--steps: should be 1 or more, found 0"),
        (["--ranks", "two"], "--ranks: numbers of 1 or more, such as 4 or 1,2,4; found two"),
        (["--ranks", "0"], "--ranks: numbers of 1 or more, such as 4 or 1,2,4; found 0"),
        (["--ranks", "1,2", "--find-batch-size"], "--find-batch-size needs one number of ranks"),
        (["--trace", "traces", "--find-batch-size"], "--find-batch-size and --trace exclude each other"),
    ],
)
def test_options_without_sense_are_refused(x2kit: Run, given: list[str], message: str) -> None:
    done = x2kit("bench", "good.yaml", *given)
    assert done.status == 2
    assert done.err.startswith(message)
