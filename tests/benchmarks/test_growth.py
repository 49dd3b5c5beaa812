"""Exponents and table of the growth benchmark, from given costs; no test depends on speed."""

from __future__ import annotations

import pytest
import torch

from tests.benchmarks import growth
from tests.benchmarks.growth import Cost, Dimension, Measured, exponents, faults, measure, table
from tests.benchmarks.live_bytes import LiveBytes

SIZES = (2, 4, 8)


def costs(seconds: float, operations: float, memory: float) -> list[Cost]:
    """That grow with these exponents."""
    return [Cost(0.1 * size**seconds, 1e9 * size**operations, 2**20 * size**memory) for size in SIZES]


def test_exponents_are_those_of_the_costs() -> None:
    assert exponents(SIZES, costs(1.5, 2.0, 0.0)) == pytest.approx((1.5, 2.0, 0.0))


@pytest.mark.parametrize(
    ("seconds", "memory", "named"), [(1.2, 1.2, []), (1.3, 1.0, ["time"]), (1.0, 2.0, ["memory"])]
)
def test_what_grows_faster_than_its_arithmetic_is_named(
    seconds: float, memory: float, named: list[str]
) -> None:
    found = faults("batch", exponents(SIZES, costs(seconds, 1.0, memory)))
    assert len(found) == len(named)
    for line, what in zip(found, named, strict=True):
        assert line.startswith(f"batch: {what} grows with exponent")


def test_each_size_is_a_line_and_the_exponents_are_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "ROUNDS", 1)  # each collects garbage first, which takes a while here
    ran: list[int] = []

    def make(size: int) -> Measured:
        return Measured(lambda: ran.append(size), lambda _: float(size), lambda _: float(size))

    dimension = Dimension("batch", "images", SIZES, make)
    found = measure(dimension)
    assert ran[:3] == list(SIZES)  # in turns
    assert [cost.operations for cost in found] == [2, 4, 8]
    lines = list(table(dimension, costs(1, 1, 1)))
    assert len(lines) == 2 + 3 + 1
    assert lines[-1].split() == ["exponent", "1.00", "1.00", "1.00"]


def test_live_bytes_are_the_most_at_a_time() -> None:
    before = torch.zeros(1000)
    with LiveBytes() as live:
        first = before + 1  # 4,000 bytes
        second = first.view(10, 100) * 2  # as many again; a view holds nothing of its own
        del first
        third = second + 1
        third += 1
        del second, third
    assert (live.peak, live.now) == (8000, 0)


def test_live_bytes_see_the_backward_pass() -> None:
    weight = torch.ones(1000, requires_grad=True)
    with LiveBytes() as live:
        (weight * weight).sum().backward()
    assert live.now == 4000  # the gradient
    assert live.peak >= 8000
