"""Texts that forbid a flip."""

from __future__ import annotations

from x2kit.data.pipeline.samples import has_sides


def test_left_and_right_are_found_in_regions_and_in_capitals() -> None:
    assert has_sides({"regions": [{"bbox": [0, 0, 1, 1], "caption": [{"en": "LEFT hand"}]}]})
    assert has_sides({"question": "where", "options": ["on the road", "on the right"]})
    assert not has_sides({"caption": "a dog"})
