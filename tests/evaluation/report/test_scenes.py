"""Boxes on images."""

from __future__ import annotations

import re

from tests.evaluation.stubs import Listed, photo
from x2kit.evaluation.report.gallery import Thumbnails
from x2kit.evaluation.report.probe import Guess, Probe, make_probe
from x2kit.evaluation.report.scenes import SCENES, draw_scene, draw_scenes
from x2kit.plugin import ImageSpec

FOUND = Guess("a <cat>", [0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.4], 0.8)
LOST = Guess("dog", [0.2, 0.2, 0.2, 0.2], [0.8, 0.8, 0.2, 0.2], 0.0)


def rectangles(drawn: str, kind: str) -> list[tuple[float, ...]]:
    pattern = rf'<rect x="([^"]*)" y="([^"]*)" width="([^"]*)" height="([^"]*)" class="{kind}">'
    return [tuple(map(float, found)) for found in re.findall(pattern, drawn)]


def test_boxes_are_drawn_in_pixels_of_the_image() -> None:
    drawn = draw_scene("data:,", (200, 100), [FOUND, LOST], "en", 0.5)
    assert 'viewBox="0 0 200 100"' in drawn
    assert rectangles(drawn, "truth") == [(50, 25, 100, 50), (20, 10, 40, 20)]
    assert rectangles(drawn, "guess") == [(50, 30, 100, 40), (140, 70, 40, 20)]


def test_each_region_is_listed_with_its_overlap_and_whether_it_counts() -> None:
    drawn = draw_scene("data:,", (200, 100), [FOUND, LOST], "en", 0.5)
    assert re.findall(r'class="(right|missed)">(.*?)<', drawn) == [("right", "✓ 0.80"), ("missed", "✗ 0.00")]
    assert "a &lt;cat&gt;" in drawn


def test_the_same_images_are_shown_for_every_language_that_has_region_texts(probe: Probe) -> None:
    drawn = draw_scenes(probe, ["en", "xx", "de"], Thumbnails(probe.part, ImageSpec(16)))
    assert drawn is not None
    assert re.findall(r"<h3>(.*?)</h3>", drawn) == ["en", "de"]
    images = re.findall(r'<img src="(.*?)"', drawn)
    assert len(images) == 2 * SCENES
    assert images[:SCENES] == images[SCENES:]


def test_records_without_regions_have_no_boxes(probe: Probe) -> None:
    bare = make_probe(
        probe.model,
        Listed([photo(index, regions=[]) for index in range(3)]),
        False,
        probe.retrieval,
        probe.grounding,
        4,
    )
    assert draw_scenes(bare, ["en"], Thumbnails(bare.part, ImageSpec(16))) is None
