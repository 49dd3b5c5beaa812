"""Evaluation on published annotation files: captions are queries, boxes are targets of grounding."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from x2kit.data.sources.annotation_config import AnnotationFiles, CocoAnnotations, ReferringExpressions
from x2kit.errors import DataError
from x2kit.plugin import SourceConfig, TaskContext
from x2kit.tasks import Grounding, Retrieval

Context = Callable[..., TaskContext]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of 64 x 48 pixels, 0.jpg to 3.jpg."""
    for number in range(4):
        Image.new("RGB", (64, 48), (60 * number, 40, 90)).save(tmp_path / f"{number}.jpg")
    return tmp_path


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def measured(task: Any, source: SourceConfig, context: Context) -> Any:
    return task.run(context(source=source.open(), languages=source.languages(), batch_size=2))


def test_files_by_language_are_measured_by_language(folder: Path, context: Context) -> None:
    def captions(code: str, images: int, each: int) -> Path:
        entries = [
            {"image": f"{n}.jpg", "caption": [f"{code} text {n} {m}" for m in range(each)]}
            for n in range(images)
        ]
        return written(folder / f"test.{code}.json", entries)

    source = AnnotationFiles(files={"en": (captions("en", 4, 2),), "de": (captions("de", 3, 1),)})
    found = measured(Retrieval(top_k=2), source, context)["languages"]
    assert {code: (each["queries"], each["candidates"]) for code, each in found.items()} == {
        "en": (8, 4),
        "de": (3, 3),
    }


def test_wit_has_one_candidate_per_url(folder: Path, context: Context) -> None:
    lines = [
        {
            "image_url": f"https://e.org/{number}.jpg",
            "image_content": base64.b64encode((folder / f"{number}.jpg").read_bytes()).decode(),
            "caption_reference_description": text,
        }
        for number, text in ((0, "A bird."), (1, "A house"), (0, "Ein Vogel"), (2, " "))
    ]
    file = folder / "wit.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    source = AnnotationFiles(
        files={"en": (file,)},
        image_key="image_content",
        image_as="base64",
        caption_key="caption_reference_description",
        same_image_key="image_url",
        drop_empty=True,
    )
    found = measured(Retrieval(top_k=2), source, context)["languages"]["en"]
    assert (found["queries"], found["candidates"]) == (3, 2)


def test_coco_boxes_are_grounded_by_category_name(folder: Path, context: Context) -> None:
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 48} for n in range(4)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [n, n, 20, 30]} for n in range(3)],
        "categories": [{"id": 1, "name": "dog"}],
    }
    source = CocoAnnotations(files=(written(folder / "instances.json", content),), language="en")
    assert measured(Grounding(), source, context)["grounding"]["en"]["regions"] == 3


def test_boxes_of_referring_expressions_are_grounded(folder: Path, context: Context) -> None:
    refs = [{"ref_id": n, "ann_id": 10 + n, "split": "testA"} for n in range(3)]
    (folder / "refs.p").write_bytes(pickle.dumps(refs))
    instances = {
        "images": [{"id": 1, "width": 64, "height": 48}],
        "annotations": [{"id": 10 + n, "image_id": 1, "bbox": [n, n, 20, 30]} for n in range(3)],
    }
    entries = [{"image": f"{n % 2}.jpg", "text": f"dog {n}", "ref_id": n} for n in range(3)]
    source = ReferringExpressions(
        files=(written(folder / "refcoco+_test.json", entries),),
        refs=folder / "refs.p",
        instances=written(folder / "instances.json", instances),
        refs_split="testA",
        language="en",
    )
    assert measured(Grounding(), source, context)["grounding"]["en"]["regions"] == 3


def test_a_missing_image_stops_evaluation_with_its_record(folder: Path, context: Context) -> None:
    entries = [{"image": "0.jpg", "caption": ["a dog"]}, {"image": "none.jpg", "caption": ["a cat"]}]
    source = AnnotationFiles(files=(written(folder / "test.json", entries),), language="en")
    with pytest.raises(DataError, match=r"record test.json:2: .*none.jpg"):
        measured(Retrieval(), source, context)
