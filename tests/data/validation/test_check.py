"""Every kind of broken record is skipped and reported with reason, file and line; valid records are kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.data import broken_records
from tests.data.broken_records import KINDS, MAX_BOXES
from tests.data.stubs import WordTokenizer, stream
from x2kit.data.config import DataConfig
from x2kit.data.pipeline.loader import StepBatches
from x2kit.data.sources.config import JsonLines
from x2kit.data.validation.bad_records import BadRecords
from x2kit.data.validation.check import Check, check_units
from x2kit.plugin import ImageSpec, Place, Reason

SPEC = ImageSpec(size=broken_records.SIDE)
NEVER_PARSED = ("truncated-line", "a-list", "endless-number", "latin-1")
"""Kinds whose id cannot be read."""
OF_REGIONS = {Reason.BOX_EMPTY, Reason.BOX_OUTSIDE, Reason.BOXES_TOO_MANY}
"""Faults of regions; the image itself is valid and stays."""
SOUND_BETWEEN = 99


def data_of(file: Path, batch_size: int, workers: int = 0) -> DataConfig:
    """An image-text stream, and a region-text stream that shares its images."""
    common = {"source": JsonLines(files=(file,)), "languages": ("en", "de")}
    return DataConfig(
        streams={
            "images": stream("ImageText", batch_size=batch_size, **common),
            "regions": stream("RegionText", images_from="images", max_boxes=MAX_BOXES, **common),
        },
        num_workers=workers,
    )


def steps_of(data: DataConfig, steps: int) -> StepBatches:
    return StepBatches(data, WordTokenizer(), SPEC, 0, steps)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_reported_with_reason_and_place(kind: str, tmp_path: Path) -> None:
    file = broken_records.write(tmp_path, [kind], 3)
    batch = steps_of(data_of(file, 4), 1).batch(0)
    reason = KINDS[kind][0]
    assert {(fault.reason, fault.place) for fault in batch.broken} == {(reason, Place(str(file), line=4))}
    assert {fault.record for fault in batch.broken} == {"#3" if kind in NEVER_PARSED else kind}


def test_every_reason_is_tested() -> None:
    elsewhere = {
        Reason.FILE_CHANGED,  # tests/data/features/test_records.py
        Reason.REMOTE_UNREADABLE,  # tests/data/storage/test_files.py
        Reason.ADDRESS_REFUSED,  # tests/data/storage/test_url_policy.py
        Reason.BYTES_TOO_MANY,  # tests/data/storage/test_limits.py
        Reason.SHARD_TRUNCATED,  # tests/data/sources
        Reason.IMAGE_TOO_SHALLOW,  # tests/data/media/test_pixel_arrays.py
        Reason.IMAGE_NOT_FINITE,  # the same
        Reason.VIDEO_UNREADABLE,  # tests/data/media/test_videos.py
        Reason.VIDEO_EMPTY,  # the same
        Reason.DUPLICATE_ID,  # tests/data/validation/test_duplicates.py
        Reason.OTHER,  # tests/data/validation/test_bad_records.py
    }
    assert {reason for reason, _ in KINDS.values()} | elsewhere == set(Reason)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_with_one_percent_broken_records_skips_exactly_those(tmp_path: Path, workers: int) -> None:
    file = broken_records.write(tmp_path, list(KINDS), SOUND_BETWEEN)
    records, batch_size = len(KINDS) * (SOUND_BETWEEN + 1), 50
    assert records % batch_size == 0
    bad = BadRecords()
    seen: set[str] = set()
    found: set[tuple[str, Reason, int | None]] = set()
    for batch in steps_of(data_of(file, batch_size, workers), records // batch_size).iterate():
        bad.add(batch)
        bad.check(0.02)
        seen.update(batch.records["images"])
        found |= {(one.record, one.reason, one.place.line) for one in batch.broken if one.place}
    lines = range(SOUND_BETWEEN + 1, records + 1, SOUND_BETWEEN + 1)
    assert found == {
        (f"#{line - 1}" if kind in NEVER_PARSED else kind, KINDS[kind][0], line)
        for line, kind in zip(lines, KINDS, strict=True)
    }
    kept = {kind for kind, (reason, _) in KINDS.items() if reason in OF_REGIONS}
    assert seen == kept | {f"good-{number}" for number in range(len(KINDS) * SOUND_BETWEEN)}
    of_images = sum(count for (name, _), count in bad.counts.items() if name == "images")
    assert bad.seen == 2 * records + of_images


def test_a_check_finds_every_broken_record_once(tmp_path: Path) -> None:
    file = broken_records.write(tmp_path, list(KINDS), 9)
    results = []
    for workers in (0, 2):
        check = Check(check_units(data_of(file, 4).streams, {}), SPEC, 0, workers=workers)
        assert list(check.run())[-1] == check.total == check.done == len(KINDS) * 10
        assert check.complete
        results.append((check.bad.state(), check.drawn))
        counted = Counter(reason for reason, _ in KINDS.values())
        assert Counter({reason: n for (_, reason), n in check.bad.counts.items()}) == counted
    assert results[0][1] == results[1][1]
