"""Paired runs, by the order of calls and given seconds; no test depends on speed."""

from __future__ import annotations

from tests.benchmarks.paired import Ratio, paired


def test_order_alternates_between_rounds() -> None:
    calls: list[str] = []
    ratio = paired(lambda: calls.append("plain"), lambda: calls.append("ours"), rounds=2, warm_up=1)
    assert calls == ["plain", "ours", "plain", "ours", "ours", "plain"]
    assert (len(ratio.plain), len(ratio.ours)) == (2, 2)


def test_one_slow_round_does_not_change_the_ratio() -> None:
    ratio = Ratio(plain=[2.0, 4.0, 90.0], ours=[1.0, 2.0, 3.0])
    assert ratio.value == 2.0
    assert ratio.lines()[-1] == "ratio: 2.00"
