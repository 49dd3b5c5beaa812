"""The views of a record that are cached, and the features that a task reads in their place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.stubs import StubScenes, stream
from x2kit.data.config import StreamConfig
from x2kit.data.features.records import RecordFeatures, images_of, render_views
from x2kit.data.features.rules import CachedImages
from x2kit.data.features.shards import FeatureFolder, FeatureReader, stamp_of, to_numbers
from x2kit.data.media.images import ImageLike
from x2kit.data.transforms.view import View, whole_image
from x2kit.errors import DataError, PluginError, Reason
from x2kit.plugin import ImageSpec, Record

SPEC = ImageSpec(size=16)
RANDOM = {"crop_scale": (0.3, 0.9), "flip": 0.5, "augment_operations": 2}


def scene(index: int = 3) -> Record:
    return StubScenes(count=9).open()[index]


def rendered(
    config: StreamConfig, views: int, record: Record | None, index: int = 3, count: int = 1
) -> list[Any]:
    return render_views(record, index, config, CachedImages(count, views, keep_shape=False), SPEC)


def test_the_fixed_view_is_the_whole_image() -> None:
    record = scene()
    (found,) = rendered(stream("ImageText"), 1, record)
    assert found.view == View((32, 32))
    assert np.array_equal(found.pixels, whole_image(ImageLike(record["image"]), SPEC))


def test_views_differ_by_record_and_number_and_repeat_in_every_run() -> None:
    config = stream("ImageText", transform=RANDOM)
    first, again = rendered(config, 4, scene()), rendered(config, 4, scene())
    other = rendered(config, 4, scene(), index=4)
    assert [one.view for one in first] == [one.view for one in again]
    assert all(np.array_equal(one.pixels, two.pixels) for one, two in zip(first, again, strict=True))
    assert len({one.view for one in (*first, *other)}) == 8


def test_a_record_that_says_left_or_right_is_flipped_in_no_view() -> None:
    config = stream("ImageText", transform={"flip": 1.0, "careful_flip": True})
    assert all(one.view.flip for one in rendered(config, 3, scene()))
    sided: Record = {**scene(), "caption": "a dog on the left"}  # type: ignore[typeddict-item]
    assert not any(one.view.flip for one in rendered(config, 3, sided))


@pytest.mark.parametrize("record", [None, {}, {"image": b"no image"}, {"image": "/no/such.png"}])
def test_an_image_that_cannot_be_read_has_no_view(record: Any) -> None:
    assert [(one.pixels, one.view) for one in rendered(stream("ImageText"), 2, record)] == [(None, None)] * 2


def test_a_record_has_one_image_or_several() -> None:
    one, two = object(), object()
    assert images_of({"image": one}, 1) == [one]
    assert images_of({"images": [one, two]}, 2) == [one, two]
    assert images_of({"image": one, "images": [two]}, 1) == [one]
    assert images_of({"image": one}, 2) == [one]
    assert images_of({}, 2) == []


def stored(path: Path, record: Record, images: int = 1, views: int = 2) -> FeatureReader:
    """Write the features of one record: those of image i in view v are all 10 i + v."""
    folder = FeatureFolder(path / "cache", 1, images, views, (1, 1), 2, torch.float32, torch.float32)
    tensors = folder.empty(0)
    found = images_of(record, images)
    for row in range(images * views):
        number, view = divmod(row, views)
        tensors["summary"][row] = tensors["patches"][row] = 10 * number + view
        tensors["views"][row] = to_numbers(View((32, 32)), stamp_of(found[number]))
    folder.write(0, tensors)
    return FeatureReader(folder)


def number_of(features: RecordFeatures, image: Any) -> float:
    found = features.image(image).features
    assert torch.equal(found.summary, found.patches[0])
    return float(found.summary[0])


def test_each_epoch_takes_the_next_view(tmp_path: Path) -> None:
    record = scene()
    reader = stored(tmp_path, record)
    epochs = [RecordFeatures(reader, record, 0, epoch) for epoch in range(4)]
    assert [number_of(each, record["image"]) for each in epochs] == [0, 1, 0, 1]


def test_an_image_is_found_by_its_place_in_the_record(tmp_path: Path) -> None:
    record: Record = {"images": [scene(0)["image"], scene(1)["image"]]}
    features = RecordFeatures(stored(tmp_path, record, images=2, views=1), record, 0, 0)
    assert [number_of(features, image) for image in record["images"]] == [0, 10]


def test_an_image_that_the_task_made_is_refused(tmp_path: Path) -> None:
    record = scene()
    features = RecordFeatures(stored(tmp_path, record), record, 0, 0)
    with pytest.raises(PluginError, match=r"not a field of the record, .* pass record\['image'\]"):
        features.image(record["image"].copy())


def test_a_file_that_changed_is_a_broken_record(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    Image.new("RGB", (32, 32)).save(file)
    record: Record = {"image": str(file)}
    features = RecordFeatures(stored(tmp_path, record), record, 0, 0)
    assert number_of(features, record["image"]) == 0
    Image.new("RGB", (32, 32), "red").save(file)
    os.utime(file, (1, 1))
    with pytest.raises(
        DataError, match=r"has changed since its features were cached; delete .*cache"
    ) as found:
        features.image(record["image"])
    assert found.value.reason is Reason.FILE_CHANGED
    file.unlink()
    with pytest.raises(DataError, match="no image at") as found:
        features.image(record["image"])
    assert found.value.reason is Reason.FILE_MISSING
