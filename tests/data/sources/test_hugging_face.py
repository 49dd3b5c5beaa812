"""Rows of Hugging Face `datasets` folders become records, by the names of their columns."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image
from pydantic import ValidationError

from tests.data.sources.conftest import Write
from x2kit.data.media.images import decode
from x2kit.data.sources.config import HuggingFaceDataset
from x2kit.errors import DataError, Reason, SettingError
from x2kit.testing import check_source

OBJECTS = datasets.List(
    {"bbox": datasets.List(datasets.Value("float32")), "category": datasets.ClassLabel(names=["dog", "hat"])}
)


@pytest.fixture
def saved(tmp_path: Path, image: Write) -> Any:
    """Saves rows with images of 64 x 48 pixels."""

    def save(columns: dict[str, Any], split: str | None = None, **features: Any) -> Path:
        rows = datasets.Dataset.from_dict(columns)
        for name, feature in features.items():
            rows = rows.cast_column(name, feature)
        folder = tmp_path / "saved"
        (rows if split is None else datasets.DatasetDict({split: rows})).save_to_disk(str(folder))
        return folder

    return save


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_images_and_captions_are_read(saved: Any) -> None:
    folder = saved(
        {
            "image": [{"bytes": jpeg(), "path": None}] * 2,
            "text": [["a dog", "puppy"], ["a cat"]],
            "key": [7, 8],
        },
        image=datasets.Image(),
    )
    config = HuggingFaceDataset(folder=folder, caption_column="text", id_column="key", language="en")
    check_source(config)
    record = config.open()[0]
    assert record["id"] == "7"
    assert record["caption"] == [{"en": "a dog"}, {"en": "puppy"}]
    assert decode(record["image"]).size == (64, 48)


def test_questions_have_answers_options_and_labels(saved: Any) -> None:
    folder = saved(
        {
            "image": [jpeg()] * 2,
            "en": ["What is it?", "Who?"],
            "de": ["Was ist das?", None],
            "answers": [[{"answer": "dog", "id": 1}, {"answer": "dog", "id": 2}], []],
            "choices": [["dog", "cat"], ["a man", "a woman"]],
            "kind": [1, None],
        },
        kind=datasets.ClassLabel(names=["other", "animal"]),
    )
    config = HuggingFaceDataset(
        folder=folder,
        question_column={"en": "en", "de": "de"},
        answers_column="answers.answer",
        options_column="choices",
        label_column="kind",
    )
    check_source(config)
    assert config.languages() == ("en", "de")
    first, second = config.open()[0], config.open()[1]
    assert {key: value for key, value in first.items() if key != "image"} == {
        "id": "0",
        "question": {"en": "What is it?", "de": "Was ist das?"},
        "answers": ["dog", "dog"],
        "options": ["dog", "cat"],
        "label": "animal",
    }
    assert second.keys() == {"id", "image", "question", "options"}
    assert second["question"] == {"en": "Who?"}


def test_labels_may_be_numbers_booleans_or_texts(saved: Any) -> None:
    folder = saved({"image": [jpeg()], "text": ["a dog"], "number": [3], "truth": [True], "name": ["dog"]})
    for column, label in (("number", 3), ("truth", True), ("name", "dog")):
        config = HuggingFaceDataset(folder=folder, caption_column="text", label_column=column)
        assert config.open()[0]["label"] is label or config.open()[0]["label"] == label
    with pytest.raises(SettingError, match="label_column: no column 'none'"):
        HuggingFaceDataset(folder=folder, caption_column="text", label_column="none").open()


def test_boxes_have_the_names_of_their_class_labels(saved: Any) -> None:
    folder = saved(
        {
            "image": [jpeg()],
            "objects": [[{"bbox": [1, 2, 3, 4], "category": 1}, {"bbox": [0, 0, 9, 9], "category": 0}]],
        },
        split="val",
        objects=OBJECTS,
    )
    config = HuggingFaceDataset(
        folder=folder, split="val", boxes_column="objects.bbox", names_column="objects.category"
    )
    check_source(config)
    assert config.open()[0]["regions"] == [
        {"bbox": [1.0, 2.0, 3.0, 4.0], "caption": "hat"},
        {"bbox": [0.0, 0.0, 9.0, 9.0], "caption": "dog"},
    ]
    with pytest.raises(SettingError, match=r"split: .* has no split 'test'; it has val"):
        config.for_split("test").open()


def test_columns_by_language_are_captions_or_parallel_sentences(saved: Any) -> None:
    folder = saved({"image": ["a.jpg", "b.jpg"], "english": ["a dog", "a cat"], "german": ["ein Hund", None]})
    columns = {"en": "english", "de": "german"}
    captions = HuggingFaceDataset(folder=folder, caption_column=columns)
    check_source(captions)
    assert captions.languages() == ("en", "de")
    assert [captions.open()[place]["caption"] for place in (0, 1)] == [
        {"en": "a dog", "de": "ein Hund"},
        {"en": "a cat"},
    ]
    assert captions.open()[0]["image"] == str(folder / "a.jpg")
    parallel = HuggingFaceDataset(
        folder=folder, caption_column=columns, texts="parallel", image_column=None
    ).open()
    assert parallel[0] == {"id": "0", "texts": {"en": "a dog", "de": "ein Hund"}}
    with pytest.raises(DataError, match="saved row 1: german: expected text"):
        parallel[1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [b""], "text": ["a"]}, "row 0: image: expected an image, bytes or a path, found b''"),
        ({"image": [b"x"], "text": [" "]}, "row 0: text: the text is empty"),
        ({"image": [b"x"], "text": [None]}, "row 0: text: expected text"),
        ({"image": [b"x"], "text": [7]}, "row 0: text: expected text"),
    ],
)
def test_a_broken_row_is_named(saved: Any, columns: Any, message: str) -> None:
    source = HuggingFaceDataset(folder=saved(columns), caption_column="text").open()
    with pytest.raises(DataError, match=f"saved {message}"):
        source[0]


def test_a_broken_box_is_named(saved: Any) -> None:
    folder = saved({"boxes": [[[0, 0, 0, 4]], [[0, 0, 1, 4]]], "names": [["a"], ["a", "b"]]})
    source = HuggingFaceDataset(
        folder=folder, image_column=None, boxes_column="boxes", names_column="names"
    ).open()
    with pytest.raises(DataError, match=r"row 0: boxes\[0\]: the box .* has no area"):
        source[0]
    with pytest.raises(DataError, match="row 1: boxes, names: expected two lists of one length"):
        source[1]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        (
            [{"bbox": [0, 0, 1, 4], "category": -1}],
            r"objects.category\[0\]: no label -1; the labels are 0 to 1",
        ),
        ([None], r"objects.bbox\[0\]: expected \[x, y, width, height\], found None"),
        (None, "objects.bbox, objects.category: expected two lists of one length, found None and None"),
    ],
)
def test_a_region_without_a_label_or_a_box_is_named(saved: Any, objects: Any, message: str) -> None:
    whole = [{"bbox": [1, 2, 3, 4], "category": 1}]
    folder = saved({"image": [jpeg()] * 2, "objects": [objects, whole]}, objects=OBJECTS)
    source = HuggingFaceDataset(
        folder=folder, boxes_column="objects.bbox", names_column="objects.category"
    ).open()
    with pytest.raises(DataError, match=f"row 0: {message}"):
        source[0]
    assert len(source[1]["regions"]) == 1
    assert list(source.texts()) == ["hat"]


def test_a_damaged_file_is_reported_without_a_crash(saved: Any) -> None:
    folder = saved({"text": ["a dog", "a cat", "a hat"]})
    (file,) = folder.glob("*.arrow")
    ends, beyond = struct.pack("<4i", 0, 5, 10, 15), struct.pack("<4i", 0, 5, 2**31 - 1, 2**31 - 1)
    assert file.read_bytes().count(ends) == 1
    file.write_bytes(file.read_bytes().replace(ends, beyond))
    source = HuggingFaceDataset(folder=folder, image_column=None, caption_column="text").open()
    assert source[0]["caption"] == "a dog"
    with pytest.raises(DataError, match="saved row 1: cannot be read: ") as found:
        source[1]
    assert found.value.reason is Reason.FILE_UNREADABLE


def test_missing_folders_and_columns_are_refused(
    tmp_path: Path, saved: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingError, match="folder: no folder"):
        HuggingFaceDataset(folder=tmp_path / "none", caption_column="text").check()
    with pytest.raises(DataError, match="no folder saved by datasets"):
        HuggingFaceDataset(folder=tmp_path, caption_column="text").open()
    with pytest.raises(SettingError, match="caption_column: no column 'texts'; the columns are image, text"):
        HuggingFaceDataset(folder=saved({"image": [b"x"], "text": ["a"]}), caption_column="texts").open()
    with pytest.raises(ValidationError, match="set at least one"):
        HuggingFaceDataset(folder=tmp_path)
    with pytest.raises(ValidationError, match="boxes_column and names_column: set both or none"):
        HuggingFaceDataset(folder=tmp_path, boxes_column="boxes")
    monkeypatch.setattr("x2kit.data.sources.config.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"pip install 'x2kit\[datasets\]'"):
        HuggingFaceDataset(folder=tmp_path, caption_column="text").open()


def test_the_fingerprint_depends_on_the_rows(saved: Any) -> None:
    prints = []
    for text in ("a", "b", "a"):
        folder = saved({"image": [b"x"], "text": [text]})
        prints.append(HuggingFaceDataset(folder=folder, caption_column="text").open().fingerprint())
    assert prints[0] == prints[2] != prints[1]
