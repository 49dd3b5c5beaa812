"""Counts of broken records, their summary, and the limit above which a run stops."""

from __future__ import annotations

import json

import pytest

from x2kit.data.pipeline.batch import Batch, BrokenRecord
from x2kit.data.validation.bad_records import BadRecords, describe_broken
from x2kit.errors import DataError
from x2kit.plugin import Place, Reason


def batch(good: int, *faults: BrokenRecord) -> Batch:
    records = {"images": [str(number) for number in range(good)]}
    return Batch(0, None, {}, records, list(faults), good + len(faults))


def fault(record: str, reason: Reason = Reason.TEXT_EMPTY, stream: str = "images") -> BrokenRecord:
    return BrokenRecord(stream, record, reason, f"{reason} in {record}")


def test_an_error_gives_reason_and_record() -> None:
    place = Place("part-3.jsonl", line=21)
    found = BrokenRecord.from_error(
        "images", "#20", DataError("box of r7", reason=Reason.BOX_EMPTY, record="r7"), place
    )
    assert found == BrokenRecord("images", "r7", Reason.BOX_EMPTY, "box of r7", place)
    assert BrokenRecord.from_error("images", "#20", DataError("odd")) == BrokenRecord(
        "images", "#20", Reason.OTHER, "odd"
    )


def test_counts_are_restored_from_a_json_state() -> None:
    bad = BadRecords()
    bad.add(batch(6, fault("a"), fault("b", Reason.BOX_EMPTY)))
    after = BadRecords()
    after.restore(json.loads(json.dumps(bad.state())))
    assert after.state() == bad.state()
    after.add(batch(2, fault("c")))
    assert (after.total, after.seen) == (3, 11)


def test_a_few_records_of_each_reason_are_kept_once_each() -> None:
    bad = BadRecords(samples=2)
    new = bad.add(batch(0, fault("a"), fault("a"), fault("b"), fault("c"), fault("a", Reason.BOX_EMPTY)))
    assert [(one.record, one.reason) for one in new] == [
        ("a", Reason.TEXT_EMPTY),
        ("b", Reason.TEXT_EMPTY),
        ("a", Reason.BOX_EMPTY),
    ]
    assert bad.total == 5


def test_shares_and_counts_are_over_all_batches() -> None:
    bad = BadRecords()
    assert bad.share == 0
    assert bad.summary() == ""
    bad.add(batch(6, fault("a"), fault("b")))
    bad.add(batch(2))
    assert (bad.total, bad.seen, bad.share) == (2, 10, 0.2)


def test_the_summary_counts_by_stream_and_reason_with_a_few_records() -> None:
    bad = BadRecords()
    box = fault("x", Reason.BOX_EMPTY, "regions")
    bad.add(batch(93, *[fault(f"r{number}") for number in range(5)], box, fault("r0")))
    assert bad.summary() == (
        "7 of 100 records are broken (7.00%)\n"
        "  6 in stream images: empty text\n"
        "    r0: empty text in r0\n"
        "    r1: empty text in r1\n"
        "    r2: empty text in r2\n"
        "  1 in stream regions: box without area\n"
        "    x: box without area in x"
    )


def test_a_record_drawn_repeatedly_is_shown_once() -> None:
    bad = BadRecords()
    for _ in range(3):
        bad.add(batch(10, fault("r0")))
    assert bad.summary().count("r0: ") == 1


def test_a_share_above_the_limit_raises_with_summary_and_advice() -> None:
    bad = BadRecords()
    bad.add(batch(1980, *[fault(str(number)) for number in range(20)]))
    bad.check(0.01)
    bad.add(batch(0, fault("one more")))
    with pytest.raises(DataError, match=r"data\.max_bad_share = 0\.01 .*\n21 of 2001(.|\n)*x2kit data check"):
        bad.check(0.01)


def test_one_broken_record_in_the_first_step_raises_only_with_a_limit_of_zero() -> None:
    bad = BadRecords()
    bad.add(batch(63, fault("a")))
    bad.check(0.01)
    with pytest.raises(DataError, match="1 of 64 records"):
        bad.check(0.0)


@pytest.mark.parametrize(
    ("place", "message", "line"),
    [
        (None, "no image", "r0: no image"),
        (Place("a.jsonl", 7), "no image", "a.jsonl:7: r0: no image"),
        (Place("a.jsonl", 7), "a.jsonl:7: not JSON", "a.jsonl:7: r0: not JSON"),
        (Place("a.tar", None, 512), "no image", "a.tar:512: r0: no image"),
        (Place("part"), "no image", "part: r0: no image"),
    ],
)
def test_a_broken_record_is_described_with_file_and_line_once(
    place: Place | None, message: str, line: str
) -> None:
    assert describe_broken(BrokenRecord("s", "r0", Reason.OTHER, message, place)) == line
