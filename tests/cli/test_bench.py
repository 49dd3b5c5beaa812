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
    shares: Mapping[str, float] = {"data": 0.25, "backward": 0.75}
    flops: float = 3e10
    memory: int = 2**20


PHASES = [
    PhaseResult(Phase(0, 140, ("scenes.itc",))),
    PhaseResult(Phase(140, 200, ("scenes.itc", "scenes.itm")), seconds=1.5),
]


class BenchResult(NamedTuple):
    device: str = "cpu, fp32"
    rows: Mapping[str, int] = {"scenes": 8}
    phases: list[PhaseResult] = PHASES
    peak_flops: float = 4e10
    run_seconds: float = 160.0
    samples: float = 16.0
    memory: int = 2**20

    def utilisation(self, one: PhaseResult) -> float:
        return 0.75


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Training steps of the recipe and timed steps of each call."""
    record: list[tuple[int, int]] = []

    def bench(recipe: Any, steps: int) -> BenchResult:
        record.append((recipe.training.steps, steps))
        return BenchResult()

    def find_batch_size(recipe: Any, steps: int) -> Iterator[tuple[int, BenchResult]]:
        yield 1, bench(recipe, steps)
        yield 2, BenchResult(rows={"scenes": 16}, samples=20.0)
        yield 4, BenchResult(rows={"scenes": 32}, samples=19.0)

    stub = ModuleType("x2kit.training.profiling.bench")
    stub.__dict__.update(bench=bench, find_batch_size=find_batch_size)
    monkeypatch.setitem(sys.modules, "x2kit.training.profiling.bench", stub)
    return record


def test_the_table_has_speed_shares_and_memory(x2kit: Run, asked: list[tuple[int, int]]) -> None:
    done = x2kit("bench", "good.yaml", "--training.steps=200", "--steps", "3")
    assert (done.status, done.err) == (0, "")
    assert asked == [(200, 3)]
    for shown in ("cpu, fp32", "samples/s", "16.0", "data", "25.0%", "backward", "75.0%", "75%", "1 MiB"):
        assert shown in done.out


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
    assert second["shares"] == {"data": 0.25, "backward": 0.75}
    assert second["utilisation"] == 0.75
    page = (ROOT / "docs/how-to/measure-speed.md").read_text(encoding="utf-8")
    fields = [*found, *(f"phases[].{field}" for field in second)]
    assert not [field for field in fields if f"| `{field}` |" not in page]


def test_the_batch_size_that_is_fastest_is_named_as_recipe_keys(x2kit: Run) -> None:
    done = x2kit("bench", "good.yaml", "--find-batch-size")
    assert done.out.endswith("--data.streams.scenes.batch_size 16\n")
    assert json.loads(x2kit("bench", "good.yaml", "--find-batch-size", "--json").out)["best"] == 2


def test_steps_must_be_positive(x2kit: Run) -> None:
    done = x2kit("bench", "good.yaml", "--steps", "0")
    assert (done.status, done.err) == (2, "--steps: should be 1 or more, found 0\n")
