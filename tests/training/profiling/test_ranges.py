"""Times of nested parts, and the names that are replaced to measure them."""

from __future__ import annotations

from importlib import import_module
from threading import Thread

import pytest
import torch

from tests.training.conftest import Written
from x2kit.model import X2VLM
from x2kit.training.profiling import ranges
from x2kit.training.profiling.ranges import FUNCTIONS, MODEL_METHODS, Timeline, measured_ranges
from x2kit.training.stepper import Stepper, assemble

CPU = torch.device("cpu")


@pytest.fixture
def timeline(monkeypatch: pytest.MonkeyPatch) -> Timeline:
    """A timeline whose clock advances by a second at each look."""
    seconds = iter(range(1000))
    monkeypatch.setattr(ranges.time, "perf_counter", lambda: float(next(seconds)))
    line = Timeline(CPU)
    line.start()
    return line


def test_a_part_interrupts_the_one_around_it(timeline: Timeline) -> None:
    with timeline.part("losses"):
        with timeline.part("communication"):
            pass
        with timeline.part("communication"):
            pass
    spent = timeline.seconds()
    assert spent["losses"] == 3  # before, between and after the inner parts
    assert spent["communication"] == 2
    assert spent["other"] == 2
    assert sum(spent.values()) == 7


def test_threads_beside_the_step_are_not_timed(timeline: Timeline) -> None:
    def work() -> None:
        with timeline.part("data"):
            pass

    with timeline.part("fusion"):
        thread = Thread(target=work)
        thread.start()
        thread.join()
    spent = timeline.seconds()
    assert (spent["fusion"], spent["data"]) == (1, 0)


def test_every_replaced_name_exists() -> None:
    missing = [name for name in MODEL_METHODS if not hasattr(X2VLM, name)]
    missing += [
        f"{module}.{name}"
        for module, parts in FUNCTIONS.items()
        for name in parts
        if not hasattr(import_module(module), name)
    ]
    assert missing == []


def test_nothing_stays_replaced(written: Written) -> None:
    stepper = Stepper(written().recipe, assemble(written().recipe, lambda message: None)[0], 0)
    owners = [stepper.model, stepper.guard, torch.autograd, *map(import_module, FUNCTIONS)]
    before = [dict(vars(owner)) for owner in owners]
    with measured_ranges(stepper, Timeline(CPU)):
        assert "fuse" in vars(stepper.model)
        assert torch.autograd.backward is not before[2]["backward"]
    assert [dict(vars(owner)) for owner in owners] == before


def test_losses_are_those_of_a_step_that_is_not_measured(written: Written) -> None:
    found = []
    for measured in (False, True):
        stepper = Stepper(written().recipe, assemble(written().recipe, lambda message: None)[0], 0)
        batch = next(stepper.batches.iterate(0))
        if measured:
            with measured_ranges(stepper, Timeline(CPU)):
                found.append(stepper.step(batch))
        else:
            found.append(stepper.step(batch))
    assert found[0].keys() == found[1].keys()
    assert all(float(value) == float(found[1][name]) for name, value in found[0].items())
