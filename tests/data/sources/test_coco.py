"""Files in the layout of COCO become images with captions and named boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.sources.conftest import Write
from x2kit.data.sources.annotation_config import CocoAnnotations
from x2kit.errors import DataError, SettingError
from x2kit.testing import check_source

IMAGES = [
    {"id": 9, "file_name": "9.jpg", "width": 64, "height": 48},
    {"id": 4, "file_name": "4.jpg", "width": 64, "height": 48},
    {"id": 5, "file_name": "5.jpg", "width": 64, "height": 48},
]
CATEGORIES = [{"id": 18, "name": "dog", "supercategory": "animal"}, {"id": 1, "name": "person"}]


def box(image: int, bbox: Any, category: int = 18, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "bbox": bbox, "category_id": category, "segmentation": [[1, 2, 3]], **more}


@pytest.fixture
def instances(document: Write) -> Any:
    def write(*annotations: Any, name: str = "instances.json") -> Path:
        numbered = [{"id": number, **each} for number, each in enumerate(annotations)]
        content = {"info": {"a": [1]}, "images": IMAGES, "annotations": numbered, "categories": CATEGORIES}
        return document(name, content)

    return write


def test_captions_and_boxes_are_merged_by_image(tmp_path: Path, instances: Any, document: Write) -> None:
    boxes = instances(
        box(4, [1, 2, 30.5, 20]),
        box(9, [0, 0, 5, 5], 1),
        box(4, [0, 0, 9, 9], 1, iscrowd=1),
        box(4, [3, 3, 4, 4], 1),
    )
    captions = document(
        "captions.json",
        {
            "images": IMAGES,
            "annotations": [
                {"id": 1, "image_id": 4, "caption": "a dog"},
                {"id": 2, "image_id": 4, "caption": "a man and his dog"},
            ],
        },
    )
    config = CocoAnnotations(files=(boxes, captions), image_root=tmp_path / "images")
    (tmp_path / "images").mkdir()
    check_source(config)
    source = config.open()
    assert [source[place] for place in range(len(source))] == [
        {
            "id": "9",
            "image": f"{tmp_path}/images/9.jpg",
            "regions": [{"bbox": [0.0, 0.0, 5.0, 5.0], "caption": "person"}],
        },
        {
            "id": "4",
            "image": f"{tmp_path}/images/4.jpg",
            "caption": ["a dog", "a man and his dog"],
            "regions": [
                {"bbox": [1.0, 2.0, 30.5, 20.0], "caption": "dog"},
                {"bbox": [3.0, 3.0, 4.0, 4.0], "caption": "person"},
            ],
        },
    ]
    assert list(source.texts()) == ["dog", "person", "a dog", "a man and his dog"]


def test_crowds_and_categories_are_selected(instances: Any) -> None:
    file = instances(box(4, [0, 0, 9, 9], 1, iscrowd=1), box(4, [3, 3, 4, 4]), box(9, [3, 3, 4, 4]))
    kept = CocoAnnotations(files=(file,), crowd="keep", categories=("person",), language="en").open()
    assert len(kept) == 1
    assert kept[0]["regions"] == [{"bbox": [0.0, 0.0, 9.0, 9.0], "caption": {"en": "person"}}]
    with pytest.raises(DataError, match="categories: no file has cat"):
        CocoAnnotations(files=(file,), categories=("cat", "dog")).open()


def test_boxes_outside_the_image_are_refused_or_clipped(instances: Any) -> None:
    file = instances(
        box(4, [-3, 0, 10, 10]), box(4, [70, 0, 9, 9]), box(9, [60, 0, 4.5, 9]), box(5, [70, 0, 9, 9])
    )
    refused = CocoAnnotations(files=(file,)).open()
    assert refused[0]["regions"][0]["bbox"] == [60.0, 0.0, 4.0, 9.0]  # half a pixel is rounding
    with pytest.raises(DataError, match=r"instances.json annotations 1: bbox: the box .* 64 x 48") as caught:
        refused[1]
    assert caught.value.record == "4"
    clipped = CocoAnnotations(files=(file,), outside="clip").open()
    assert clipped[1]["regions"] == [{"bbox": [0.0, 0.0, 7.0, 10.0], "caption": "dog"}]
    with pytest.raises(DataError, match="image 5: no box has an area in it"):
        clipped[2]


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (box(4, [0, 0, 0, 4]), "annotations 1: bbox: the box .* has no area"),
        (box(4, [0, 0, 4]), r"annotations 1: bbox: expected \[x, y, width, height\]"),
        (box(4, "0 0 4 4"), "annotations 1: bbox: expected"),
        (box(4, [0, 0, 4, 4], 77), "annotations 1: category_id: no category has the id 77"),
        ({"image_id": 4, "category_id": 18}, "annotations 1: no field 'bbox'"),
        ({"image_id": 4, "caption": ""}, "annotations 1: caption: the text is empty"),
        ({"image_id": 4, "caption": None}, "annotations 1: caption: expected text"),
    ],
)
def test_a_broken_annotation_breaks_only_its_record(instances: Any, annotation: Any, message: str) -> None:
    source = CocoAnnotations(files=(instances(annotation, box(9, [0, 0, 4, 4])),)).open()
    assert source[0]["id"] == "9"
    with pytest.raises(DataError, match=rf"instances.json {message}"):
        source[1]


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([], "no image with a caption or a box in .*instances.json"),
        ([box(7, [0, 0, 4, 4])], "annotations 1: image_id: no image has the id 7"),
        (
            [{"image_id": "four", "bbox": []}],
            "annotations 1: image_id: expected a whole number, found 'four'",
        ),
    ],
)
def test_annotations_without_an_image_are_refused(instances: Any, annotations: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        CocoAnnotations(files=(instances(*annotations),)).open()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected an object with the lists images, annotations, categories"),
        ('{"images": [{"id": 1}', "not JSON: the document is truncated"),
        ('{"images": [7]}', "images 1: expected a JSON object, found int"),
        ('{"images": [{"file_name": "a.jpg"}]}', "images 1: no field 'id'"),
    ],
)
def test_a_file_of_another_layout_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"{file}:? {message}"):
        CocoAnnotations(files=(file,)).open()


def test_missing_files_are_refused(tmp_path: Path, instances: Any) -> None:
    with pytest.raises(SettingError, match=r"files: no file at .*none"):
        CocoAnnotations(files=(tmp_path / "none.json",)).check()
    with pytest.raises(SettingError, match="image_root: no folder"):
        CocoAnnotations(files=(instances(),), image_root=tmp_path / "none").check()
    with pytest.raises(SettingError, match=r"split: no file for split 'val': put \{split\} in the path"):
        CocoAnnotations(files=(instances(),)).for_split("val")


def test_the_fingerprint_depends_on_the_content(instances: Any) -> None:
    file = instances(box(4, [0, 0, 4, 4]))
    before = CocoAnnotations(files=(file,)).open().fingerprint()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"categories": [{"id": 18, "name": "Hund"}]}))
    assert CocoAnnotations(files=(file,)).open().fingerprint() != before
