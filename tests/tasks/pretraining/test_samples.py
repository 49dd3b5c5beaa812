"""Rows of pretraining: image, texts and boxes drawn from a record."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.stubs import Scenes, StubScenes, drawn, stream
from x2kit.data.config import StreamConfig
from x2kit.data.pipeline.samples import PairSample, RegionTexts
from x2kit.data.pipeline.streams import region_texts
from x2kit.data.transforms.view import View
from x2kit.errors import DataError
from x2kit.plugin import ImageSpec


def seeded(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def spec() -> ImageSpec:
    return ImageSpec(size=32)


def scene(index: int = 2) -> Any:
    return Scenes(StubScenes())[index]


def boxed(*boxes: list[float], size: tuple[int, int] = (40, 40), **fields: Any) -> Any:
    regions = [{"bbox": box, "caption": f"thing {number}"} for number, box in enumerate(boxes)]
    return {"image": Image.new("RGB", size), "regions": regions, **fields}


def regions(record: Any, config: StreamConfig, spec: ImageSpec, seed: int = 0) -> RegionTexts:
    return region_texts(drawn(record, config, spec, seeded(seed)).row)


def shared_regions(record: Any, view: View, spec: ImageSpec) -> RegionTexts:
    """Regions of an image that another stream has drawn."""
    found = drawn(record, stream("RegionText"), spec, seeded(), view).row
    assert found.images == []
    return region_texts(found)


def pair(record: Any, config: StreamConfig, spec: ImageSpec, seed: int = 0) -> PairSample:
    row = drawn(record, config, spec, seeded(seed)).row
    return PairSample(row.texts[0], row.texts[1], row.targets["languages"])


def test_an_image_sample_has_the_image_and_one_cleaned_text(spec: ImageSpec) -> None:
    record = scene()
    found = drawn(record, stream("ImageText", languages=["de"]), spec, seeded())
    assert np.array_equal(found.row.images[0], np.asarray(record["image"]))
    assert found.row.texts == [record["caption"]["de"].replace(",", "")]
    assert found.view == View((32, 32))


def test_a_sample_depends_on_its_generator_only(spec: ImageSpec) -> None:
    config = stream("ImageText", transform={"crop_scale": (0.2, 1), "flip": 0.5, "augment_operations": 2})
    first, second = (drawn(scene(), config, spec, seeded(4)) for _ in range(2))
    assert first.row.texts == second.row.texts
    assert np.array_equal(first.row.images[0], second.row.images[0])
    images = {drawn(scene(), config, spec, seeded(seed)).row.images[0].tobytes() for seed in range(10)}
    assert len(images) == 10


@pytest.mark.parametrize(
    ("text", "flipped"), [("dog on the left", False), ("bright hat", False), ("dog", True)]
)
def test_a_careful_flip_excludes_images_with_left_or_right_in_a_text(
    text: str, flipped: bool, spec: ImageSpec
) -> None:
    record = {**scene(), "caption": {"en": text, "de": "Hund"}}
    config = stream("ImageText", languages=["de"], transform={"flip": 1, "careful_flip": True})
    assert drawn(record, config, spec, seeded()).view.flip is flipped
    careless = stream("ImageText", transform={"flip": 1})
    assert drawn(record, careless, spec, seeded()).view.flip


def test_the_caption_precedes_the_regions_of_a_region_sample(spec: ImageSpec) -> None:
    record = scene(2)
    found = regions(record, stream("RegionText", languages=["en"]), spec)
    assert found.texts[0] == record["caption"]["en"].replace(",", "")
    assert found.bbox[0] == (0.5, 0.5, 1.0, 1.0)
    assert found.whole == [True, False, False, False]
    assert set(found.texts[1:]) == {region["caption"]["en"] for region in record["regions"]}


def test_every_region_keeps_its_own_box(spec: ImageSpec) -> None:
    record = boxed([0, 0, 20, 20], [20, 20, 20, 20], [0, 20, 20, 10])
    places = {
        "thing 0": (0.25, 0.25, 0.5, 0.5),
        "thing 1": (0.75, 0.75, 0.5, 0.5),
        "thing 2": (0.25, 0.625, 0.5, 0.25),
    }
    for seed in range(10):
        found = regions(record, stream("RegionText"), spec, seed)
        assert dict(zip(found.texts, found.bbox, strict=True)) == places


def test_a_crop_contains_its_region_and_the_box_matches_the_pixels(spec: ImageSpec) -> None:
    image = Image.new("RGB", (40, 40), (0, 0, 0))
    image.paste((255, 255, 255), (8, 16, 24, 32))
    record = {"image": image, "regions": [{"bbox": [8, 16, 16, 16], "caption": "square"}]}
    config = stream("RegionText", transform={"crop_scale": (0.2, 1), "flip": 0.5})
    crops = set()
    for seed in range(20):
        found = drawn(record, config, spec, seeded(seed)).row
        ((cx, cy, w, h),) = found.targets["bbox"]
        crops.add((cx, cy, w, h))
        x0, x1 = (cx - w / 2) * 32, (cx + w / 2) * 32
        y0, y1 = (cy - h / 2) * 32, (cy + h / 2) * 32
        bright = found.images[0][..., 0] > 127
        inside = np.zeros((32, 32), dtype=bool)
        inside[round(y0) : round(y1), round(x0) : round(x1)] = True
        assert (bright != inside).mean() < 0.08  # half a pixel at each edge
    assert len(crops) > 15


def test_images_with_boxes_are_augmented_in_colour_only(spec: ImageSpec) -> None:
    image = Image.new("RGB", (32, 32), (30, 60, 30))
    image.paste((200, 220, 200), (8, 8, 24, 16))
    record = {"image": image, "regions": [{"bbox": [8, 8, 16, 8], "caption": "square"}]}
    inside = np.zeros((32, 32), dtype=bool)
    inside[8:16, 8:24] = True
    seen = set()
    for seed in range(30):
        config = stream("RegionText", transform={"augment_operations": 5})
        found = drawn(record, config, spec, seeded(seed)).row
        red = found.images[0][..., 0].astype(int)
        assert np.array_equal(red > (red[inside].mean() + red[~inside].mean()) / 2, inside)
        seen.add(found.images[0].tobytes())
    assert len(seen) > 5


def test_max_regions_includes_the_caption(spec: ImageSpec) -> None:
    record = boxed(*[[number, 0, 10, 10] for number in range(8)], caption="all of it")
    found = regions(record, stream("RegionText", max_regions=3), spec)
    assert found.texts[0] == "all of it"
    assert len(found.texts) == 3
    chosen = Counter(
        text
        for seed in range(300)
        for text in regions(record, stream("RegionText", max_regions=3), spec, seed).texts
    )
    assert all(45 < chosen[f"thing {number}"] < 110 for number in range(8))  # 75 each


def test_regions_of_a_shared_image_follow_its_view_without_the_caption(spec: ImageSpec) -> None:
    record = boxed([0, 0, 10, 10], [30, 0, 10, 10], caption="all of it")
    found = shared_regions(record, View((40, 40), (20, 0, 40, 20), flip=True), spec)
    assert found.texts == ["thing 1"]
    assert found.bbox == [pytest.approx((0.25, 0.25, 0.5, 0.5))]
    assert found.whole == [False]


def test_a_record_without_regions_needs_a_caption(spec: ImageSpec) -> None:
    config = stream("RegionText", transform={"crop_scale": (0.2, 1)})
    assert regions(boxed(caption="all"), config, spec).whole == [True]
    with pytest.raises(DataError, match="neither regions nor a caption"):
        drawn(boxed(), config, spec, seeded())
    assert shared_regions(boxed(), View((40, 40)), spec).texts == []


def test_the_pivot_is_paired_with_every_other_language(spec: ImageSpec) -> None:
    record: Any = {"texts": {"en": "dog", "de": "Hund", "fr": "chien", "it": "cane"}}
    config = stream("ParallelText", pivot="en", languages=["en", "de", "fr"])
    pairs = Counter(pair(record, config, spec, seed).languages for seed in range(800))
    assert set(pairs) == {("en", "de"), ("de", "en"), ("en", "fr"), ("fr", "en")}
    assert all(150 < count < 250 for count in pairs.values())  # 200 each


def test_two_different_languages_are_drawn_without_a_pivot(spec: ImageSpec) -> None:
    record: Any = {"texts": {"en": "Dog!", "de": "Hund", "fr": "chien"}}
    pairs = Counter(pair(record, stream("ParallelText"), spec, seed).languages for seed in range(900))
    assert len(pairs) == 6
    assert all(100 < count < 200 for count in pairs.values())  # 150 each
    texts = {
        code: text
        for s in range(20)
        for p in [pair(record, stream("ParallelText"), spec, s)]
        for code, text in zip(p.languages, p[:2], strict=True)
    }
    assert texts == {"en": "dog", "de": "hund", "fr": "chien"}


def test_a_text_stream_keeps_punctuation(spec: ImageSpec) -> None:
    found = drawn({"caption": "Don't  stop, DOG."}, stream("PlainText"), spec, seeded()).row
    assert found.texts == ["don't stop, dog."]


@pytest.mark.parametrize(
    ("task", "change", "reason"),
    [
        ("ImageText", {"caption": "..."}, "empty text"),
        ("ImageText", {"image": b""}, "image empty"),
        ("ImageText", {"caption": None}, "field of a wrong type"),
        ("RegionText", {"regions": "none"}, "field of a wrong type"),
        ("RegionText", {"regions": ["box"]}, "field of a wrong type"),
        ("RegionText", {"regions": [{"caption": "no box"}]}, "field missing"),
        ("RegionText", {"regions": [{"bbox": [0, 0, 5, 5]}]}, "field missing"),
        ("RegionText", {"regions": [{"bbox": [0, 0, 5, 99], "caption": "x"}]}, "box outside its image"),
        ("ParallelText", {"texts": {"en": "dog"}}, "language missing"),
        ("ParallelText", {"texts": "dog"}, "field of a wrong type"),
        ("ParallelText", {"texts": {"en": "dog", "de": "!"}}, "empty text"),
        ("PlainText", {"caption": " "}, "empty text"),
    ],
)
def test_a_broken_record_is_rejected_with_its_reason(
    task: str, change: dict[str, Any], reason: str, spec: ImageSpec
) -> None:
    with pytest.raises(DataError) as found:
        drawn({**scene(), **change}, stream(task), spec, seeded())
    assert found.value.reason == reason


@pytest.mark.parametrize(
    ("task", "missing"),
    [
        ("ImageText", "caption"),
        ("ImageText", "image"),
        ("RegionText", "regions"),
        ("ParallelText", "texts"),
    ],
)
def test_a_missing_field_is_named_with_the_fields_present(task: str, missing: str, spec: ImageSpec) -> None:
    record = scene()
    del record[missing]
    with pytest.raises(DataError, match=f"no field '{missing}'; it has .*id"):
        drawn(record, stream(task), spec, seeded())


def test_a_missing_pivot_is_named_with_the_languages_present(spec: ImageSpec) -> None:
    with pytest.raises(DataError, match="texts in de, fr; needed are en and "):
        pair({"texts": {"de": "Hund", "fr": "chien"}}, stream("ParallelText", pivot="en"), spec)
