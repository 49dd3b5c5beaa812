"""The parts of a measured step, on tiny encoders; no test depends on how long anything takes."""

from __future__ import annotations

import pytest

from x2kit.training.bench import PARTS, bench, find_batch_size, larger

from .conftest import Written


def test_the_parts_of_a_step_make_up_its_time(written: Written) -> None:
    measured = bench(written().recipe, steps=2)
    assert tuple(measured.shares) == PARTS
    assert sum(measured.shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in measured.shares.values())


def test_rates_and_work_are_counted(written: Written) -> None:
    recipe = written().recipe
    measured = bench(recipe, steps=1)
    assert measured.rows == {name: stream.batch_size for name, stream in recipe.data.streams.items()}
    assert measured.tokens > measured.samples > 0
    assert measured.flops > 0
    assert measured.utilisation == measured.flops / measured.peak_flops
    assert measured.memory > 2**20


def test_larger_batches_keep_their_shape(written: Written) -> None:
    data = written().recipe.data
    for name, stream in larger(data, 4).streams.items():
        before = data.streams[name]
        assert stream.batch_size == 4 * before.batch_size
        assert stream.fusion_rows == (before.fusion_rows and 4 * before.fusion_rows)


def test_the_first_size_tried_is_the_recipes(written: Written) -> None:
    recipe = written().recipe
    factor, measured = next(find_batch_size(recipe, 1))
    assert factor == 1
    assert measured.rows == {name: stream.batch_size for name, stream in recipe.data.streams.items()}
