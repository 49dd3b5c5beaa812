"""Records and rows of a step, and the replacement of broken records."""

from __future__ import annotations

from typing import Any

import pytest

from tests.data.stubs import StubScenes, stream
from x2kit.data.pipeline.streams import (
    Faults,
    Stream,
    draw_images,
    draw_pairs,
    draw_regions,
    draw_shared_regions,
    draw_texts,
)
from x2kit.errors import DataError
from x2kit.plugin import ImageSpec


def opened(task: str, source: StubScenes | None = None, seed: int = 0, **settings: Any) -> Stream:
    config = stream(task, source=source or StubScenes(), **settings)
    return Stream(task, config, config.source.open(), seed)


def test_steps_follow_the_order_of_the_stream(spec: ImageSpec) -> None:
    texts = opened("PlainText")
    expected = [f"scene-{slot.record}" for slot in texts.order.slots(0, 12)]
    assert [
        record for step in range(3) for record in draw_texts(texts, step, spec, Faults()).records
    ] == expected
    assert sorted(expected) == sorted(f"scene-{index}" for index in range(12))


def test_a_broken_record_is_reported_and_replaced(spec: ImageSpec) -> None:
    source = StubScenes(broken=(3,), undecodable=(5,))
    faults = Faults()
    images = opened("ImageText", source)
    records = [v.record for step in range(3) for v in draw_images(images, step, spec, faults, False).visits]
    assert len(records) == 12
    assert not {"scene-3", "scene-5"} & set(records)
    assert ("ImageText", "#3", "other") in {fault[:3] for fault in faults}
    assert ("ImageText", "scene-5", "image not readable") in {fault[:3] for fault in faults}
    assert any("not a readable image" in fault.message for fault in faults)


def test_replacements_do_not_depend_on_earlier_steps(spec: ImageSpec) -> None:
    source = StubScenes(broken=(1, 2, 3, 4, 5, 6))
    images = opened("ImageText", source)
    alone = Faults()
    later = draw_images(images, 2, spec, alone, False)
    faults = Faults()
    fresh = opened("ImageText", source)
    for step in range(2):
        draw_images(fresh, step, spec, faults, False)
    faults.clear()
    assert [v.record for v in draw_images(fresh, 2, spec, faults, False).visits] == [
        v.record for v in later.visits
    ]
    assert faults == alone


def test_every_position_has_its_own_replacement(spec: ImageSpec) -> None:
    source = StubScenes(count=1000, broken=tuple(range(0, 1000, 2)))
    found = draw_texts(opened("PlainText", source, batch_size=60), 0, spec, Faults())
    assert len(set(found.records)) > 50


def test_a_broken_record_does_not_move_the_others(spec: ImageSpec) -> None:
    valid = draw_texts(opened("PlainText"), 1, spec, Faults()).records
    broken_index = int(valid[2].removeprefix("scene-"))
    found = draw_texts(opened("PlainText", StubScenes(broken=(broken_index,))), 1, spec, Faults()).records
    assert [a == b for a, b in zip(valid, found, strict=True)] == [True, True, False, True]


def test_a_source_of_broken_records_only_raises_with_the_last_reason(spec: ImageSpec) -> None:
    texts = opened("PlainText", StubScenes(broken=tuple(range(12))))
    with pytest.raises(DataError, match=r"stream PlainText: 100 records in a row are broken.*not JSON"):
        draw_texts(texts, 0, spec, Faults())


def test_images_without_rows_are_not_returned(spec: ImageSpec) -> None:
    regions = opened("RegionText", StubScenes(regions=4), batch_size=3, max_images=6)
    rows, all_images = draw_regions(regions, 0, spec, Faults(), offset=10)
    assert len(rows.texts) == 3
    assert set(rows.images) == set(range(10, 10 + len(all_images)))
    assert len(all_images) <= 3


def test_region_rows_are_limited_but_never_filled_up(spec: ImageSpec) -> None:
    many, _ = draw_regions(opened("RegionText", batch_size=100, max_images=4), 0, spec, Faults(), 0)
    few, _ = draw_regions(opened("RegionText", batch_size=7, max_images=4), 0, spec, Faults(), 0)
    rows = list(zip(many.records, many.texts, many.regions.bbox, strict=True))  # type: ignore[union-attr]
    kept = list(zip(few.records, few.texts, few.regions.bbox, strict=True))  # type: ignore[union-attr]
    assert 7 < len(rows) < 100
    assert len(kept) == 7
    places = [rows.index(row) for row in kept]
    assert places == sorted(places)


def test_the_selected_rows_change_with_the_step(spec: ImageSpec) -> None:
    regions = opened("RegionText", StubScenes(count=4), batch_size=5, max_images=4)
    kept = {tuple(sorted(draw_regions(regions, step, spec, Faults(), 0)[0].texts)) for step in range(12)}
    assert len(kept) > 3


def test_shared_regions_refer_to_the_images_of_their_records(spec: ImageSpec) -> None:
    images = draw_images(opened("ImageText"), 0, spec, Faults(), True)
    rows = draw_shared_regions(opened("RegionText", batch_size=99), 0, spec, images, range(5, 9), Faults())
    assert rows.regions is not None
    assert rows.records == [images.visits[image - 5].record for image in rows.images]
    assert not any(rows.regions.whole)
    expected = sum(len(row.record["regions"]) for row in images.rows)
    assert len(rows.texts) == expected


def test_broken_regions_of_a_shared_image_are_reported_and_not_replaced(spec: ImageSpec) -> None:
    source = StubScenes(outside=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9))
    images = draw_images(opened("ImageText", source), 0, spec, Faults(), True)
    faults = Faults()
    rows = draw_shared_regions(opened("RegionText", source), 0, spec, images, range(4), faults)
    bad = [visit.record for visit in images.visits if visit.slot.record < 10]
    assert [fault.record for fault in faults] == bad
    assert {fault.reason for fault in faults} == {"box outside its image"}
    assert not set(rows.records) & set(bad)


def test_images_of_regions_are_counted_by_why_they_have_no_row(spec: ImageSpec) -> None:
    # 9 images of 4 records, and 3 rows: the other images are above the limit or repeat a record.
    regions = opened("RegionText", StubScenes(count=4), batch_size=3, max_images=9)
    for step in range(6):
        rows, all_images = draw_regions(regions, step, spec, Faults(), 0)
        assert rows.counts is not None
        assert (rows.counts.drawn, rows.counts.broken, rows.counts.empty) == (9, 0, 0)
        assert rows.counts.held == len(set(rows.records))
        assert rows.counts.over_limit == 9 - len(all_images)
        assert rows.counts.repeated == len(all_images) - len(set(rows.records))


def test_images_without_regions_and_with_broken_regions_are_counted_separately(spec: ImageSpec) -> None:
    source = StubScenes(count=8, outside=(0, 1, 2))
    crop = {"transform": {"crop_scale": (0.05, 0.1)}}  # most crops lose most regions
    images = draw_images(opened("ImageText", source, batch_size=8, **crop), 0, spec, Faults(), True)
    rows = draw_shared_regions(
        opened("RegionText", source, batch_size=99), 0, spec, images, range(len(images.rows)), Faults()
    )
    assert rows.counts is not None
    assert (rows.counts.drawn, rows.counts.broken) == (8, 3)
    assert rows.counts.empty == 5 - len(set(rows.images)) > 0
    assert (rows.counts.over_limit, rows.counts.repeated, rows.counts.rows_over_limit) == (0, 0, 0)


def test_rows_above_the_limit_are_counted(spec: ImageSpec) -> None:
    many, _ = draw_regions(opened("RegionText", batch_size=100, max_images=4), 0, spec, Faults(), 0)
    few, _ = draw_regions(opened("RegionText", batch_size=7, max_images=4), 0, spec, Faults(), 0)
    assert few.counts is not None
    assert few.counts.rows_over_limit == len(many.texts) - 7


def test_a_record_gives_one_pair(spec: ImageSpec) -> None:
    drawn = draw_pairs(opened("ParallelText"), 0, spec, Faults())
    assert len(drawn.pairs) == len(drawn.records) == 4
