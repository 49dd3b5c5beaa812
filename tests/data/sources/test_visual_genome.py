"""Files in the layout of Visual Genome become images with described regions and named objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.sources.conftest import Write
from x2kit.data.sources.annotation_config import VisualGenomeAnnotations
from x2kit.errors import DataError, SettingError
from x2kit.testing import check_source

IMAGES = [
    {"image_id": 2, "url": "https://e.org/rak/VG_100K_2/2.jpg", "width": 64, "height": 48},
    {"image_id": 1, "url": "https://e.org/rak/VG_100K/1.jpg", "width": 64, "height": 48},
    {"image_id": 3, "url": "https://e.org/rak/VG_100K/3.jpg", "width": 64, "height": 48},
]
PHRASES = [
    {
        "id": 1,
        "regions": [
            {"region_id": 5, "image_id": 1, "phrase": "a red hat", "x": 1, "y": 2, "width": 10, "height": 20},
            {
                "region_id": 6,
                "image_id": 1,
                "phrase": "A tall man ",
                "x": 0,
                "y": 0,
                "width": 30,
                "height": 40,
            },
        ],
    }
]
OBJECTS = [
    {"image_id": 1, "objects": [{"object_id": 50, "names": ["hat"], "x": 1, "y": 2, "w": 10, "h": 20}]},
    {"image_id": 2, "objects": [{"object_id": 51, "names": ["tree", "oak"], "x": 3, "y": 4, "w": 5, "h": 6}]},
]
ATTRIBUTES = [
    {
        "image_id": 1,
        "attributes": [
            {
                "object_id": 50,
                "names": ["hat"],
                "attributes": ["red", "new "],
                "x": 1,
                "y": 2,
                "w": 10,
                "h": 20,
            },
            {"object_id": 52, "names": ["man"], "x": 0, "y": 0, "w": 30, "h": 40},
        ],
    }
]

BOX = {"x": 1, "y": 1, "w": 2, "h": 1}


@pytest.fixture
def config(tmp_path: Path, document: Write) -> Any:
    (tmp_path / "images").mkdir()

    def make(*contents: Any, **settings: Any) -> VisualGenomeAnnotations:
        return VisualGenomeAnnotations(
            images=document("image_data.json", IMAGES),
            files=tuple(document(f"{number}.json", content) for number, content in enumerate(contents)),
            image_root=tmp_path / "images",
            **settings,
        )

    return make


def test_described_regions_are_read(tmp_path: Path, config: Any) -> None:
    source = config(PHRASES, language="en").open()
    assert len(source) == 1
    assert source[0] == {
        "id": "1",
        "image": f"{tmp_path}/images/VG_100K/1.jpg",
        "regions": [
            {"bbox": [1.0, 2.0, 10.0, 20.0], "caption": {"en": "a red hat"}},
            {"bbox": [0.0, 0.0, 30.0, 40.0], "caption": {"en": "A tall man "}},
        ],
    }


def test_objects_have_their_attributes_before_each_name(config: Any) -> None:
    settings = config(OBJECTS, ATTRIBUTES, PHRASES)
    check_source(settings)
    source = settings.open()
    captions = [[region["caption"] for region in source[place]["regions"]] for place in range(len(source))]
    assert captions == [[["tree", "oak"]], [["red hat", "new hat"], "man", "a red hat", "A tall man "]]


def test_images_can_be_in_one_folder(tmp_path: Path, config: Any) -> None:
    assert config(OBJECTS, image_at="id").open()[0]["image"] == f"{tmp_path}/images/2.jpg"


def test_boxes_outside_the_image_are_refused_or_clipped(config: Any) -> None:
    objects = [
        {
            "image_id": 1,
            "objects": [
                {"object_id": 1, "names": ["a"], "x": 60, "y": 4, "w": 50, "h": 6},
                {"object_id": 2, "names": ["b"], "x": 90, "y": 4, "w": 50, "h": 6},
            ],
        }
    ]
    with pytest.raises(DataError, match=r"0.json entry 1: objects 1: box: the box .* lies outside"):
        config(objects).open()[0]
    assert config(objects, outside="clip").open()[0]["regions"] == [
        {"bbox": [60.0, 4.0, 4.0, 6.0], "caption": "a"}
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image_id": 1}, "none of the fields regions, objects, attributes"),
        ({"image_id": 1, "objects": {}}, "objects: expected a list"),
        ({"image_id": 1, "objects": []}, "image 1: no region or object"),
        ({"image_id": 1, "objects": ["hat"]}, "objects 1: expected an object, found 'hat'"),
        ({"image_id": 1, "objects": [{"names": ["a"], "x": 1, "y": 1, "w": 0, "h": 1}]}, "has no area"),
        ({"image_id": 1, "objects": [{"names": ["a"], "x": 1, "y": 1, "w": 2}]}, "no field 'h'"),
        ({"image_id": 1, "objects": [{"names": "a", "x": 1, "y": 1, "w": 2, "h": 1}]}, "expected lists"),
        ({"image_id": 1, "objects": [{"names": [], "x": 1, "y": 1, "w": 2, "h": 1}]}, "names: expected text"),
        (
            {"image_id": 1, "objects": [{"names": ["a"], "attributes": [{"en": "red"}], **BOX}]},
            r"attributes\[0\]: expected text",
        ),
        (
            {"image_id": 1, "objects": [{"names": [{"en": "a"}], "attributes": ["red"], **BOX}]},
            r"names\[0\]: expected text",
        ),
        (
            {"image_id": 1, "regions": [{"phrase": "", "x": 1, "y": 1, "width": 2, "height": 1}]},
            "text is empty",
        ),
    ],
)
def test_a_broken_entry_breaks_its_record(config: Any, entry: Any, message: str) -> None:
    source = config([entry]).open()
    with pytest.raises(DataError, match=message):
        source[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"regions": []}, "0.json: expected a list"),
        ([{"regions": []}], "0.json entry 1: neither image_id nor id"),
        ([{"id": 77, "regions": []}], "0.json entry 1: no image has the id 77"),
        ([], "no entry for an image of .*image_data.json"),
    ],
)
def test_a_file_of_another_layout_is_refused(config: Any, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        config(content).open()


def test_missing_files_are_refused(tmp_path: Path, config: Any) -> None:
    good = config(PHRASES)
    for setting in ("images", "files", "image_root"):
        value: Any = str(tmp_path / "none")
        wrong = good.model_copy(update={setting: (value,) if setting == "files" else value})
        with pytest.raises(SettingError, match=f"{setting}: .*none"):
            wrong.check()
