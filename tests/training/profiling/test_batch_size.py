"""Larger batches while they pay and fit; measured by a stub."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.data.stubs import stream
from tests.training.conftest import Written
from x2kit.data.config import DataConfig, loss_phases
from x2kit.distributed.processes import Processes
from x2kit.errors import X2KitError
from x2kit.training.profiling import batch_size as module
from x2kit.training.profiling.batch_size import find_batch_size, measure_in_process, scale_batches
from x2kit.training.profiling.bench import BenchResult, PhaseResult

MIB = 2**20


def _measured(samples: float, memory: int = MIB, capacity: int = 100 * MIB) -> BenchResult:
    (phase,) = loss_phases(DataConfig(streams={"scenes": stream("ImageText")}), 10)
    one = PhaseResult(phase, 1.0, samples, 0.0, 0.0, {}, 1.0, 1.0, memory)
    return BenchResult("cpu", 1, {}, [one], 1.0, None, capacity)


def test_batches_grow_while_samples_a_second_do() -> None:
    speeds = {1: 10.0, 2: 18.0, 4: 18.5}
    assert list(dict(find_batch_size(lambda factor: _measured(speeds[factor])))) == [1, 2, 4]


def test_batches_stop_before_twice_the_memory_is_more_than_there_is() -> None:
    tried = find_batch_size(lambda factor: _measured(10.0 * factor, factor * 30 * MIB))
    assert list(dict(tried)) == [1, 2]


def test_a_size_that_lacks_memory_ends_the_search() -> None:
    assert list(dict(find_batch_size(lambda factor: _measured(10.0 * factor) if factor < 4 else None))) == [
        1,
        2,
    ]
    assert dict(find_batch_size(lambda factor: None)) == {}


def _without_memory(*_: object) -> BenchResult:
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_in_one_process_is_no_error(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "bench", _without_memory)
    assert measure_in_process(written().recipe, 1)(2) is None


def test_out_of_memory_on_a_rank_ends_all_ranks(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "bench", _without_memory)
    processes = replace(Processes(), rank=1, count=2)
    with pytest.raises(X2KitError, match="rank 1: out of memory with 4 times the rows"):
        measure_in_process(written().recipe, 1, processes)(4)


def test_scaled_batches_keep_their_proportions(written: Written) -> None:
    data = written().recipe.data
    for name, found in scale_batches(data, 4).streams.items():
        before = data.streams[name]
        assert found.batch_size == 4 * before.batch_size
        assert found.fusion_rows == (before.fusion_rows and 4 * before.fusion_rows)


def test_the_first_size_is_the_recipes(written: Written) -> None:
    recipe = written().recipe
    factor, measured = next(find_batch_size(measure_in_process(recipe, 1)))
    assert factor == 1
    assert measured.rows == {name: stream.batch_size for name, stream in recipe.data.streams.items()}
