"""BenchResult steps of tiny encoders; no test depends on durations."""

from __future__ import annotations

import pytest
from torch import Tensor

from tests.data.stubs import stream
from tests.training.conftest import Written
from x2kit.data.config import DataConfig, Phase, loss_phases
from x2kit.training.profiling.bench import (
    PARTS,
    WARM_UP,
    BenchResult,
    PhaseResult,
    bench,
    find_batch_size,
    scale_batches,
)
from x2kit.training.stepper import Stepper


def test_shares_of_the_parts_sum_to_one(written: Written) -> None:
    (phase,) = bench(written().recipe, steps=2).phases
    assert tuple(phase.shares) == PARTS
    assert sum(phase.shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in phase.shares.values())


def test_tokens_samples_and_operations_are_counted(written: Written) -> None:
    recipe = written().recipe
    measured = bench(recipe, steps=1)
    (phase,) = measured.phases
    assert measured.rows == {name: stream.batch_size for name, stream in recipe.data.streams.items()}
    assert phase.tokens > phase.samples > 0
    assert phase.flops > 0
    assert measured.utilisation(phase) == phase.flops / measured.peak_flops
    assert measured.memory == phase.memory > 2**20


def test_each_phase_is_measured_with_its_losses(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[set[str]] = []
    ordinary = Stepper.total

    def noted(self: Stepper, losses: dict[str, dict[str, Tensor]]) -> Tensor:
        computed.append({f"{name}.{loss}" for name, on in losses.items() for loss in on})
        return ordinary(self, losses)

    monkeypatch.setattr(Stepper, "total", noted)
    losses = {"itm": {"start": 0.85}, "mlm": {"stop": 0.4}}
    measured = bench(written({"images": {"losses": losses}}, steps=10).recipe, steps=2)
    assert [(one.phase.start, one.phase.stop) for one in measured.phases] == [(0, 4), (4, 9), (9, 10)]
    expected = [set(one.phase.names) for one in measured.phases for _ in range(WARM_UP + 2 + 1)]
    assert computed == expected
    assert expected[0] > expected[4]


def test_time_of_a_run_sums_over_its_phases() -> None:
    data = DataConfig(streams={"scenes": stream("ImageText", losses={"itm": {"start": 0.7}})})
    first, second = loss_phases(data, 100)
    measured = BenchResult("cpu", {}, [_phase(first, 0.5, 40.0), _phase(second, 2.0, 10.0)], 1.0)
    assert measured.run_seconds == pytest.approx(70 * 0.5 + 30 * 2.0)
    assert measured.samples == pytest.approx((70 * 20 + 30 * 20) / 95)


def _phase(phase: Phase, seconds: float, samples: float) -> PhaseResult:
    return PhaseResult(phase, seconds, samples, 0.0, {}, 1.0, 1)


def test_scaled_batches_keep_their_proportions(written: Written) -> None:
    data = written().recipe.data
    for name, found in scale_batches(data, 4).streams.items():
        before = data.streams[name]
        assert found.batch_size == 4 * before.batch_size
        assert found.fusion_rows == (before.fusion_rows and 4 * before.fusion_rows)


def test_first_batch_size_is_the_recipes(written: Written) -> None:
    recipe = written().recipe
    factor, measured = next(find_batch_size(recipe, 1))
    assert factor == 1
    assert measured.rows == {name: stream.batch_size for name, stream in recipe.data.streams.items()}
