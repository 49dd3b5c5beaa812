"""Broken records are counted by reason, shown, and too many of them end the run."""

from __future__ import annotations

import pytest

from x2kit.data.batch import Batch, Broken
from x2kit.data.faults import BadRecords, broken
from x2kit.errors import DataError


def batch(good: int, *faults: Broken) -> Batch:
    return Batch(0, None, {}, {"images": [str(number) for number in range(good)]}, list(faults))


def fault(record: str, reason: str = "empty text", stream: str = "images") -> Broken:
    return Broken(stream, record, reason, f"{reason} in {record}")


def test_records_broken_alike_have_one_reason() -> None:
    first, second = (broken("images", "r", DataError(f"part-{n}.jsonl:{n * 7}: not JSON")) for n in (3, 12))
    assert first.reason == second.reason == "part-#.jsonl:#: not JSON"
    assert first.message == "part-3.jsonl:21: not JSON"
    assert broken("images", "r", DataError("box of r7", reason="bad box")).reason == "bad box"


def test_shares_and_counts_are_over_all_records() -> None:
    bad = BadRecords()
    assert bad.share == 0
    assert bad.summary() == ""
    bad.add(batch(6, fault("a"), fault("b")))
    bad.add(batch(2))
    assert (bad.total, bad.seen, bad.share) == (2, 10, 0.2)


def test_the_summary_counts_by_stream_and_reason_and_shows_a_few_records() -> None:
    bad = BadRecords(samples=2)
    bad.add(
        batch(
            93, *[fault(f"r{number}") for number in range(5)], fault("x", "bad box", "regions"), fault("r0")
        )
    )
    assert bad.summary() == (
        "7 of 100 records are broken (7.00%)\n"
        "  6 in stream images: empty text\n"
        "    r0: empty text in r0\n"
        "    r1: empty text in r1\n"
        "  1 in stream regions: bad box\n"
        "    x: bad box in x"
    )


def test_a_record_is_shown_once_however_often_it_is_drawn() -> None:
    bad = BadRecords()
    for _ in range(3):
        bad.add(batch(10, fault("r0")))
    assert bad.summary().count("r0: ") == 1


def test_more_than_the_set_share_ends_the_run_with_what_to_do() -> None:
    bad = BadRecords()
    bad.add(batch(1980, *[fault(str(number)) for number in range(20)]))
    bad.check(0.01)
    bad.add(batch(0, fault("one more")))
    with pytest.raises(
        DataError, match=r"data\.max_bad_share = 0\.01 allows\n21 of 2001(.|\n)*mend or leave out"
    ):
        bad.check(0.01)


def test_one_broken_record_in_the_first_step_does_not_end_a_run_unless_none_is_allowed() -> None:
    bad = BadRecords()
    bad.add(batch(63, fault("a")))
    bad.check(0.01)
    with pytest.raises(DataError, match="1 of 64 records"):
        bad.check(0.0)
