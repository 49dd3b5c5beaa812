"""Messages about losses that start or stop, and about collapsed matching heads."""

from __future__ import annotations

from tests.data.stubs import stream
from x2kit.data.config import DataConfig, loss_phases
from x2kit.training.logging.watch import LossWatch

DATA = DataConfig(
    streams={"scenes": stream("ImageText", losses={"itm": {"start": 0.7}, "mlm": {"stop": 0.5}})}
)
COLLAPSED = {"scenes.itm_positive_accuracy": 0.0, "scenes.itm_negative_accuracy": 1.0}
HEALTHY = {"scenes.itm_positive_accuracy": 0.6, "scenes.itm_negative_accuracy": 0.9}


def watch(done: int = 0) -> LossWatch:
    return LossWatch(loss_phases(DATA, 100), done)


def test_losses_that_start_or_stop_are_named_once_with_their_values() -> None:
    watched = watch()
    said = {
        done: list(watched.messages(done, {"scenes.itm": 0.6931, "loss": 5.0})) for done in range(10, 101, 10)
    }
    assert {done: messages for done, messages in said.items() if messages} == {
        60: ["losses stopped since step 50: scenes.mlm; the total loss falls by them"],
        80: ["losses started since step 70: scenes.itm 0.693; the total loss rises by them"],
    }


def test_a_resumed_run_does_not_repeat_them() -> None:
    assert list(watch(80).messages(90, {"scenes.itm": 0.5})) == []


def test_a_collapsed_head_is_warned_of_once() -> None:
    watched = watch(75)
    said = {done: list(watched.messages(done, COLLAPSED)) for done in range(78, 100, 2)}
    (done,) = (done for done, messages in said.items() if messages)
    assert done == 98  # a fifth of the run after it was seen first
    assert "scenes.itm" in said[done][0]
    assert "accuracy 0.00 on matching pairs, 1.00 on the others" in said[done][0]


def test_a_head_that_learns_is_not_warned_of() -> None:
    watched = watch(75)
    lines = [COLLAPSED, COLLAPSED, HEALTHY, COLLAPSED, COLLAPSED, HEALTHY]
    assert not [said for place, line in enumerate(lines) for said in watched.messages(76 + 4 * place, line)]


def test_a_head_collapsed_at_the_end_is_warned_of() -> None:
    assert len(list(watch(98).messages(100, COLLAPSED))) == 1


def test_a_run_without_steps_has_nothing_to_watch() -> None:
    LossWatch([], 0)
