"""Order of records and random generators as functions of seed, epoch and position."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from x2kit.data.pipeline.order import ROUNDS, KeyedPermutation, StreamOrder
from x2kit.errors import DataError

SIZES = st.integers(1, 40)
BLOCKS = st.integers(1, 6)


@given(seed=st.integers(0, 2**63), size=SIZES, epoch=st.integers(0, 3))
def test_an_epoch_contains_every_record_once(seed: int, size: int, epoch: int) -> None:
    order = StreamOrder(seed, "images", size)
    assert sorted(slot.record for slot in order.slots(epoch * size, size)) == list(range(size))


@given(size=SIZES, block=BLOCKS, epoch=st.integers(0, 3))
def test_blocks_stay_together_in_every_epoch(size: int, block: int, epoch: int) -> None:
    order = StreamOrder(3, "images", size, block)
    slots = order.slots(epoch * order.epoch_length, order.epoch_length)
    assert {slot.record for slot in slots} == set(range(size))
    for start in range(0, len(slots), block):
        records = [slot.record for slot in slots[start : start + block]]
        first = records[0]
        assert first % block == 0
        whole = min(block, size - first)  # the last block is filled with other records
        assert records[:whole] == list(range(first, first + whole))


@given(first=st.integers(0, 60), size=SIZES, block=BLOCKS)
def test_a_slot_does_not_depend_on_the_first_slot(first: int, size: int, block: int) -> None:
    order = StreamOrder(1, "images", size, block)
    assert StreamOrder(1, "images", size, block).slots(first, 5) == order.slots(0, first + 5)[first:]


def test_epochs_seeds_and_streams_are_shuffled_differently() -> None:
    def records(seed: int, stream: str, epoch: int) -> list[int]:
        order = StreamOrder(seed, stream, 100)
        return [slot.record for slot in order.slots(epoch * 100, 100)]

    orders = [
        records(0, "a", 0),
        records(0, "a", 1),
        records(1, "a", 0),
        records(0, "b", 0),
        list(range(100)),
    ]
    assert len({tuple(order) for order in orders}) == 5


def test_generators_of_different_uses_differ() -> None:
    order = StreamOrder(0, "images", 10)
    generators = [
        order.of_sample(0, 1),
        order.of_sample(1, 0),
        order.of_sample(0, 2),
        order.of_rows(1),
        order.of_masks(1),
        StreamOrder(1, "images", 10).of_sample(0, 1),
        StreamOrder(0, "regions", 10).of_sample(0, 1),
    ]
    assert len({generator.random() for generator in generators}) == len(generators)
    assert order.of_sample(0, 1).random() == StreamOrder(0, "images", 10).of_sample(0, 1).random()


def test_replacements_depend_on_position_and_attempt() -> None:
    order = StreamOrder(0, "images", 1000)
    found = [order.replacement(0, position, attempt) for position in range(20) for attempt in range(20)]
    assert len(set(found)) > 250  # 400 draws of 1000 give about 330 different ones
    assert all(0 <= record < 1000 for record in found)


def test_a_source_without_records_is_rejected() -> None:
    with pytest.raises(DataError, match="stream images: the source has no records"):
        StreamOrder(0, "images", 0)


def test_an_epoch_is_permuted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shuffled: list[int] = []
    plain = StreamOrder._shuffled_blocks

    def counted(self: StreamOrder, epoch: int) -> Any:
        shuffled.append(epoch)
        return plain(self, epoch)

    monkeypatch.setattr(StreamOrder, "_shuffled_blocks", counted)
    order = StreamOrder(0, "images", 1000)
    for step in range(0, 1000, 50):
        order.slots(step, 50)
        order.slot(step)
    order.slots(980, 40)  # a step that spans two epochs
    order.slots(1000, 1000)
    assert shuffled == [0, 1]


@given(size=st.integers(2, 300), keys=st.lists(st.integers(0, 2**64 - 1), min_size=ROUNDS, max_size=ROUNDS))
def test_a_keyed_permutation_reaches_every_number_once(size: int, keys: list[int]) -> None:
    permutation = KeyedPermutation(size, keys)
    assert sorted(permutation[number] for number in range(size)) == list(range(size))


def test_numbers_of_a_keyed_permutation_are_uniform_and_unrelated() -> None:
    size, rng = 3_000_000, np.random.default_rng(0)
    permutation = KeyedPermutation(size, rng.integers(2**64, size=ROUNDS, dtype=np.uint64).tolist())
    found = np.array([permutation[number] for number in range(50_000)])
    for values in (found, np.diff(found) % size):
        assert chisquare(np.histogram(values, bins=500, range=(0, size))[0]).pvalue > 1e-3


def test_a_large_stream_is_shuffled_without_a_table() -> None:
    """As a table, the order of these records takes 8 GB."""
    tracemalloc.start()
    order = StreamOrder(0, "images", 10**9, block=2)
    slots = order.slots(10**9 - 64, 128)  # two epochs
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    records = [slot.record for slot in slots]
    assert [later - earlier for earlier, later in zip(records[::2], records[1::2], strict=True)] == [1] * 64
    assert len(set(records)) == 128
    assert StreamOrder(0, "images", 10**9, block=2).slots(10**9 - 64, 128) == slots


def test_both_kinds_of_shuffle_visit_every_record_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("x2kit.data.pipeline.order.LARGEST_TABLE", 8)
    for size in (8, 9, 1000):
        records = [slot.record for slot in StreamOrder(0, "images", size).slots(size, size)]
        assert sorted(records) == list(range(size))
        assert records != list(range(size))
