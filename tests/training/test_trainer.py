from __future__ import annotations

import os
import signal

import pytest

from x2kit.training.trainer import stop_requests


@pytest.mark.parametrize(("passed_on", "heard"), [(False, 1), (True, 2)])
def test_ctrl_c_is_heard_and_one_more_stops_at_once(passed_on: bool, heard: int) -> None:
    with stop_requests(passed_on) as asked:
        for _ in range(heard):
            os.kill(os.getpid(), signal.SIGINT)
        assert asked == [signal.SIGINT] * heard
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_sigterm_never_stops_at_once() -> None:
    with stop_requests() as asked:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
    assert asked == [signal.SIGTERM] * 3


def test_the_handlers_are_those_of_before_again() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_requests():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
