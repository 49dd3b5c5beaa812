"""The next batch is prepared beside the step, one ahead, in order; errors and ends reach the loader."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing

import pytest
import torch

from tests.data.pipeline.test_loader import everything
from tests.data.stubs import WordTokenizer
from x2kit.data.pipeline.loader import StepBatches
from x2kit.data.pipeline.transfer import Ahead, feed
from x2kit.plugin import ImageSpec

PATIENCE = 30.0
"""Timeout in seconds; events come within milliseconds."""


class Loader:
    """Numbers from 0; tells when each is asked for and when it is closed."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked = [threading.Event() for _ in range(count + 1)]
        self.closed = threading.Event()

    def numbers(self) -> Generator[int]:
        try:
            for number in range(self.count):
                self.asked[number].set()
                yield number
            self.asked[self.count].set()
        finally:
            self.closed.set()


def test_the_next_item_is_asked_for_while_the_step_runs_and_no_further_one() -> None:
    loader = Loader(4)
    with closing(Ahead(loader.numbers())) as ahead:
        for step, number in enumerate(ahead):
            assert number == step
            assert loader.asked[step + 1].wait(PATIENCE)  # within the step
            if step + 2 <= loader.count:
                assert not loader.asked[step + 2].is_set()
    assert loader.closed.is_set()


def test_closing_early_closes_the_loader() -> None:
    loader = Loader(100)
    with closing(Ahead(loader.numbers())) as ahead:
        assert next(iter(ahead)) == 0
    assert loader.closed.is_set()
    assert not loader.asked[3].is_set()


def test_closing_before_the_first_item_closes_the_loader() -> None:
    loader = Loader(1)
    items = loader.numbers()
    Ahead(items).close()
    assert list(items) == []


def test_an_error_of_the_loader_comes_in_its_order() -> None:
    def failing() -> Generator[int]:
        yield 0
        yield 1
        raise ValueError("no third")

    found = []
    with pytest.raises(ValueError, match="no third"), closing(Ahead(failing())) as ahead:
        found.extend(ahead)
    assert found == [0, 1]


def test_nothing_is_left_out_or_repeated() -> None:
    assert list(Ahead(Loader(50).numbers())) == list(range(50))
    assert list(Ahead(Loader(0).numbers())) == []


def test_a_cpu_takes_batches_as_they_are() -> None:
    batches = StepBatches(everything(), WordTokenizer(), ImageSpec(size=16), 0, 2)
    fed = list(feed(batches.iterate(), torch.device("cpu")))
    assert [each.host.step for each in fed] == [0, 1]
    for each in fed:
        assert each.on_device.images is each.host.images
