"""Lines and counts of the records that a run skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from x2kit.data.pipeline.batch import Batch, BrokenRecord
from x2kit.data.validation.bad_records import SAMPLES
from x2kit.errors import DataError
from x2kit.plugin import Place, Reason
from x2kit.training.logging.bad_records import BadRecordsOfRun


def batch(step: int, *records: str, drawn: int = 100) -> Batch:
    place = Place("/data/part-0.jsonl", line=7)
    faults = [BrokenRecord("images", name, Reason.TEXT_EMPTY, "nothing remains", place) for name in records]
    return Batch(step, None, {}, {}, faults, drawn)


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "bad-records.jsonl").read_text().splitlines()]


def counts(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "bad-records-counts.json").read_text())
    return found


def test_each_broken_record_is_a_line_with_place_and_reason(tmp_path: Path) -> None:
    run = BadRecordsOfRun(tmp_path)
    run.add(batch(4, "r7"), 1.0)
    run.close()
    assert lines(tmp_path) == [
        {
            "step": 5,
            "stream": "images",
            "record": "r7",
            "reason": "empty text",
            "file": "/data/part-0.jsonl",
            "line": 7,
            "offset": None,
            "message": "nothing remains",
        }
    ]
    assert counts(tmp_path) == {
        "seen": 100,
        "broken": 1,
        "counts": [{"stream": "images", "reason": "empty text", "count": 1}],
    }


def test_lines_are_bounded_and_counts_are_exact(tmp_path: Path) -> None:
    run = BadRecordsOfRun(tmp_path)
    for step in range(4):
        run.add(batch(step, *[f"r{number}" for number in range(SAMPLES - 1 + step)]), 1.0)
    run.close()
    assert len(lines(tmp_path)) == SAMPLES
    assert counts(tmp_path)["broken"] == 4 * (SAMPLES - 1) + 6


def test_a_resumed_run_continues_lines_and_counts(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for directory in (whole, killed):
        directory.mkdir()
    steps = [batch(0, "a"), batch(1, "b"), batch(2, "a", "c"), batch(3, "d")]
    run = BadRecordsOfRun(whole)
    for one in steps:
        run.add(one, 1.0)
    run.close()

    run = BadRecordsOfRun(killed)
    for one in steps[:2]:
        run.add(one, 1.0)
    state = json.loads(json.dumps(run.state()))
    run.sync()
    run.add(steps[2], 1.0)
    with (killed / "bad-records.jsonl").open("a") as file:
        file.write('{"step": 4, "stre')  # killed while it wrote
    run = BadRecordsOfRun(killed, 2, state)
    assert [line["record"] for line in lines(killed)] == ["a", "b"]
    for one in steps[2:]:
        run.add(one, 1.0)
    run.close()
    for file in ("bad-records.jsonl", "bad-records-counts.json"):
        assert (killed / file).read_text() == (whole / file).read_text()


def test_too_many_end_the_run_and_are_still_written(tmp_path: Path) -> None:
    run = BadRecordsOfRun(tmp_path)
    with pytest.raises(DataError, match=r"max_bad_share = 0\.01 allows\n11 of 1000 records"):
        run.add(batch(0, *[f"r{number}" for number in range(11)], drawn=1000), 0.01)
    run.close()
    assert len(lines(tmp_path)) == 11


def test_the_share_includes_records_before_the_resume(tmp_path: Path) -> None:
    run = BadRecordsOfRun(tmp_path)
    run.add(batch(0, *[f"r{number}" for number in range(10)], drawn=1000), 0.01)
    run.close()
    resumed = BadRecordsOfRun(tmp_path, 1, run.state())
    with pytest.raises(DataError, match="11 of 1050 records"):
        resumed.add(batch(1, "one more", drawn=50), 0.01)


def test_the_summary_names_the_file(tmp_path: Path) -> None:
    run = BadRecordsOfRun(tmp_path)
    assert run.summary() == ""
    run.add(batch(0, "a"), 1.0)
    assert run.summary().endswith(f"more in {tmp_path / 'bad-records.jsonl'}")
