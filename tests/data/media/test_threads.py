"""Results of threads come in order; errors come in their turn; nothing runs far ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from x2kit.data.media.threads import in_threads


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_are_in_the_order_of_the_items(workers: int) -> None:
    def later_first(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        return item * item

    assert list(in_threads(later_first, range(40), 4, workers)) == [item * item for item in range(40)]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_after_the_results_before_it(workers: int) -> None:
    def failing(item: int) -> int:
        if item in (5, 3):
            raise ValueError(f"item {item}")
        return item

    results = in_threads(failing, range(40), 8, workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="item 3"):
        next(results)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_items_comes_after_the_results_before_it(workers: int) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("no fourth")

    results = in_threads(lambda item: item, items(), 8, workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="no fourth"):
        next(results)


def test_no_more_items_are_taken_than_may_wait() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = in_threads(lambda item: item, items(), 6, 2)
    next(results)
    assert len(taken) == 6
    results.close()
    assert not any(thread.name.startswith("x2kit-decode") for thread in threading.enumerate())
