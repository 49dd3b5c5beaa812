from __future__ import annotations

import threading
from functools import partial

import pytest
from x2kit_reporters import reporting
from x2kit_reporters.reporting import BackgroundCalls


def fail() -> None:
    raise ConnectionError("down")


def test_calls_are_made_in_order_while_nobody_waits() -> None:
    made: list[int] = []
    go = threading.Event()
    calls = BackgroundCalls()
    calls.call(partial(go.wait, 60))  # type: ignore[arg-type]
    for number in range(5):
        calls.call(partial(made.append, number))
    assert made == []
    go.set()
    calls.close()
    assert made == [0, 1, 2, 3, 4]


def test_what_a_call_raises_is_raised_later_and_the_others_are_made() -> None:
    made: list[int] = []
    calls = BackgroundCalls()
    go = threading.Event()
    calls.call(partial(go.wait, 60))  # type: ignore[arg-type]
    calls.call(fail)
    calls.call(partial(made.append, 1))
    go.set()
    with pytest.raises(ConnectionError, match="down"):
        calls.close()
    assert made == [1]


def test_the_end_waits_no_longer_than_it_says() -> None:
    go = threading.Event()
    calls = BackgroundCalls()
    calls.call(partial(go.wait, 60))  # type: ignore[arg-type]
    calls.call(fail)
    with pytest.raises(TimeoutError, match=r"2 calls not finished after 0 seconds are dropped"):
        calls.close(timeout=0)
    go.set()


def test_only_so_many_calls_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "MAX_PENDING", 1)
    go = threading.Event()
    calls = BackgroundCalls()
    calls.call(partial(go.wait, 60))  # type: ignore[arg-type]
    with pytest.raises(TimeoutError, match="1 calls are pending; this one is dropped"):
        calls.call(fail)
    go.set()
    calls.close()
