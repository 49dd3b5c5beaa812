"""Measured steps of tiny encoders; no test depends on durations."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from torch import Tensor
from x2kit_fusion import CrossBert

from tests.data.stubs import stream
from tests.training.conftest import Written
from x2kit.data.config import DataConfig, Phase, loss_phases
from x2kit.training.profiling import bench as module
from x2kit.training.profiling.bench import BenchResult, PhaseResult, bench, replace_sections
from x2kit.training.profiling.ranges import PARTS
from x2kit.training.profiling.useful import UsefulCounter
from x2kit.training.stepper import Stepper


@pytest.fixture(autouse=True)
def _known_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak takes a second to measure."""
    monkeypatch.setattr(module, "matmul_peak", lambda device, precision: 1e9)


def test_shares_of_the_parts_sum_to_one(written: Written) -> None:
    (phase,) = bench(written().recipe, steps=2).phases
    assert tuple(phase.shares) == PARTS
    assert sum(phase.shares.values()) == pytest.approx(1)
    assert phase.shares.pop("communication") == 0
    assert all(share > 0 for share in phase.shares.values())


def test_tokens_samples_and_operations_are_counted(written: Written) -> None:
    recipe = written().recipe
    measured = bench(recipe, steps=1)
    (phase,) = measured.phases
    assert measured.rows == {name: stream.batch_size for name, stream in recipe.data.streams.items()}
    assert measured.ranks == 1
    assert phase.tokens > phase.samples > 0
    assert 0 < phase.padding < 1
    assert phase.useful is not None
    assert phase.executed > phase.useful > 0
    assert measured.hardware_utilisation(phase) == phase.executed / phase.seconds / 1e9
    assert measured.mfu(phase) == phase.useful / phase.seconds / 1e9
    assert measured.capacity > measured.memory == phase.memory > 2**20
    assert measured.notes == ()


@pytest.mark.slow
def test_recomputation_is_executed_but_not_useful(written: Written) -> None:
    def measured(**settings: object) -> PhaseResult:
        recipe = written(**settings).recipe
        model = recipe.model.model_copy(update={"fusion": CrossBert(layers=2, heads=2)})
        return bench(replace_sections(recipe, model=model), steps=1).phases[0]

    plain, checkpointed, in_parts = (
        measured(),
        measured(activation_checkpointing=True),
        measured(accumulation=2),
    )
    assert checkpointed.executed > plain.executed
    assert in_parts.executed > in_parts.useful
    assert plain.useful == checkpointed.useful == in_parts.useful


def test_an_encoder_that_fails_on_the_meta_device_leaves_useful_operations_uncounted(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise NotImplementedError("no meta kernel")

    monkeypatch.setattr(UsefulCounter, "operations", fail)
    measured = bench(written().recipe, steps=1)
    assert measured.phases[0].useful is None
    assert measured.mfu(measured.phases[0]) is None
    (note,) = measured.notes
    assert note.endswith("NotImplementedError: no meta kernel")


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
    each = len(computed) // 3
    assert computed == [set(one.phase.names) for one in measured.phases for _ in range(each)]
    assert computed[0] > computed[each]


def test_the_trace_names_the_parts_of_each_step(written: Written, tmp_path: Path) -> None:
    bench(written().recipe, steps=1, trace=tmp_path / "traces")
    (file,) = (tmp_path / "traces").iterdir()
    assert file.name == "phase-1-rank-0.json.gz"
    assert file.stat().st_size < 2**21
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "user_annotation"]
    assert names.count("x2kit.step") == module.TRACED
    expected = {f"x2kit.{part}" for part in PARTS} - {"x2kit.other", "x2kit.communication"}
    assert expected <= set(names)


def test_time_of_a_run_sums_over_its_phases() -> None:
    data = DataConfig(streams={"scenes": stream("ImageText", losses={"itm": {"start": 0.7}})})
    first, second = loss_phases(data, 100)
    phases = [_phase(first, 0.5, 40.0, 0.1), _phase(second, 2.0, 10.0, 0.2)]
    measured = BenchResult("cpu", 1, {}, phases, 1.0, None, 1)
    assert measured.run_seconds == pytest.approx(70 * 0.5 + 30 * 2.0)
    assert measured.samples == pytest.approx((70 * 20 + 30 * 20) / 95)
    assert measured.share("data") == pytest.approx((35 * 0.1 + 60 * 0.2) / 95)


def test_utilisation_is_relative_to_the_datasheet_if_there_is_one() -> None:
    (phase,) = loss_phases(DataConfig(streams={"scenes": stream("ImageText")}), 10)
    measured = BenchResult("cuda", 1, {}, [_phase(phase, 0.5, 1.0, 0.0)], 4e12, 8e12, 1)
    assert measured.hardware_utilisation(measured.phases[0]) == pytest.approx(2e12 / 0.5 / 8e12)
    assert measured.mfu(measured.phases[0]) == pytest.approx(1e12 / 0.5 / 8e12)


def _phase(phase: Phase, seconds: float, samples: float, data: float) -> PhaseResult:
    return PhaseResult(phase, seconds, samples, 0.0, 0.0, {"data": data}, 2e12, 1e12, 1)
