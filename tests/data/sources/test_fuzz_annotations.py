"""Readers of annotation files answer ten thousand damaged ones with records or a DataError, and with nothing else."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.sources.test_coco import CATEGORIES, IMAGES, box
from tests.data.sources.test_referring import ENTRIES, INSTANCES, REFS
from tests.data.sources.test_visual_genome import ATTRIBUTES, OBJECTS, PHRASES
from tests.data.sources.test_visual_genome import IMAGES as GENOME_IMAGES
from tests.fuzzing import INPUTS, answered, damaged, damaged_value
from x2kit.data.sources.annotation_config import (
    AnnotationFiles,
    CocoAnnotations,
    ReferringExpressions,
    VisualGenomeAnnotations,
)
from x2kit.data.sources.referring import read_plain_pickle
from x2kit.errors import DataError
from x2kit.plugin import SourceConfig

KEYS = (
    "id", "image_id", "category_id", "file_name", "width", "height", "bbox", "caption", "name", "iscrowd", "images",
    "annotations", "categories", "regions", "objects", "attributes", "names", "phrase", "x", "y", "w", "h", "url",
    "object_id", "image", "text", "ref_id", "ann_id", "split", "question", "answer", "options", "label", "other",
)  # fmt: skip
CAPTIONS = {"images": IMAGES, "annotations": [{"id": 1, "image_id": 4, "caption": "a dog"}]}
BOXES = {
    "images": IMAGES,
    "annotations": [{"id": 1, **box(4, [1, 2, 30.5, 20])}, {"id": 2, **box(9, [0, 0, 5, 5], 1, iscrowd=1)}],
    "categories": CATEGORIES,
}
RETRIEVAL = [
    {"image": "val2014/2.jpg", "caption": ["A dog.", {"de": "Ein Hund."}], "image_id": 2},
    {"image": "1.jpg", "caption": "A cat.", "image_id": "1"},
]


def files_of(form: str, content: Any) -> bytes:
    """A document as a release would have it: on one line, over several, or one object a line."""
    if form == "lines":
        return "".join(json.dumps(entry) + "\n" for entry in content).encode()
    return json.dumps(content, indent=2 if form == "indented" else None).encode()


class Damaging:
    """Writes all files of a source sound and, again and again, one of them damaged."""

    def __init__(self, folder: Path, seed: int, **contents: Any) -> None:
        self._rng = random.Random(seed)
        self._folder = folder
        self._contents = contents
        for name, content in contents.items():
            self.path(name).write_bytes(self._written(name, content))

    def path(self, name: str) -> Path:
        """Of the file of this name."""
        return self._folder / f"{name}.json"

    def inputs(self, count: int = INPUTS) -> Iterator[None]:
        """Each time around, one file is damaged in another way."""
        for _ in range(count):
            name = self._rng.choice([*self._contents])
            content = self._contents[name]
            sound = self._written(name, content)
            if self._rng.random() < 0.5:
                self.path(name).write_bytes(damaged(sound, self._rng))
            else:
                self.path(name).write_bytes(self._written(name, damaged_value(content, self._rng, KEYS)))
            yield
            self.path(name).write_bytes(sound)

    def _written(self, name: str, content: Any) -> bytes:
        if name == "pickle":
            return pickle.dumps(content, protocol=self._rng.randrange(pickle.HIGHEST_PROTOCOL + 1))
        lines = isinstance(content, list) and all(isinstance(entry, dict) for entry in content)
        return files_of(self._rng.choice(("line", "indented", "lines" if lines else "line")), content)


class Counted:
    """Reads all of a source: records one by one, whose own faults are counted apart, then places, texts and hash."""

    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self.records = self.broken = 0

    def __call__(self, _: None) -> None:
        source: Any = self._config.open()
        for index in range(len(source)):
            source.place(index)
            try:
                source[index]
                self.records += 1
            except DataError:
                self.broken += 1
        list(source.texts())
        source.fingerprint()


def check(damaging: Damaging, config: SourceConfig) -> None:
    """Every input is answered, and the damage is of all kinds."""
    read = Counted(config)
    good, bad = answered(damaging.inputs(), read)
    assert good + bad == INPUTS
    assert min(good, bad, read.records, read.broken) > 10


@pytest.mark.slow
@pytest.mark.parametrize("one_record", ["image", "entry"])
def test_lists_of_captions(tmp_path: Path, one_record: Any) -> None:
    damaging = Damaging(tmp_path, 0, entries=RETRIEVAL)
    check(damaging, AnnotationFiles(files=(damaging.path("entries"),), one_record=one_record))


@pytest.mark.slow
@pytest.mark.parametrize("one_record", ["entry", "id"])
def test_objects_of_questions(tmp_path: Path, one_record: Any) -> None:
    questions = {
        "055": {
            "image": "2405722",
            "question": "Ist der Himmel dunkel?",
            "answer": "no",
            "options": ["a", "b"],
        },
        "056": {
            "image": 7,
            "question": "Ja?",
            "answer": {"yes": 1.0},
            "label": "True",
            "options": ["a", "b"],
        },
    }
    damaging = Damaging(tmp_path, 1, entries=questions)
    config = AnnotationFiles(
        files={"de": (damaging.path("entries"),)},
        question_key="question",
        answers_key="answer",
        single_answer_weight=0.5,
        options_keys=("options",),
        label_key="label",
        label_as="bool",
        id_key="id",
        id_as="number",
        skip={"answer": ("other",)},
        image_path="{number}/{id}",
        one_record=one_record,
    )
    check(damaging, config)


@pytest.mark.slow
def test_captions_of_coco_by_the_number_of_the_image(tmp_path: Path) -> None:
    captions = {"annotations": [{"id": 1, "image_id": n, "caption": f"a dog {n}"} for n in (1, 2)]}
    damaging = Damaging(tmp_path, 7, entries=[{"image": "1.jpg"}, {"image": "2.jpg"}], captions=captions)
    files = (damaging.path("entries"),)
    check(damaging, AnnotationFiles(files=files, coco_captions=damaging.path("captions")))


@pytest.mark.slow
def test_tables(tmp_path: Path) -> None:
    rng, file = random.Random(8), tmp_path / "a.csv"
    sound = b'video,question,answer\n40,"why, then",4\n41,"how\n""so""",0\n'
    config = AnnotationFiles(
        files=(file,),
        video_key="video",
        question_key="question",
        label_key="answer",
        label_as="int",
        one_record="entry",
    )
    read = Counted(config)

    def inputs() -> Iterator[None]:
        for _ in range(INPUTS):
            file.write_bytes(damaged(sound, rng))
            yield

    good, bad = answered(inputs(), read)
    assert good + bad == INPUTS
    assert min(good, bad, read.records, read.broken) > 10


@pytest.mark.slow
def test_captions_and_boxes_of_coco(tmp_path: Path) -> None:
    damaging = Damaging(tmp_path, 2, captions=CAPTIONS, boxes=BOXES)
    check(damaging, CocoAnnotations(files=(damaging.path("boxes"), damaging.path("captions"))))


@pytest.mark.slow
@pytest.mark.parametrize("image_at", ["url", "id"])
def test_visual_genome(tmp_path: Path, image_at: Any) -> None:
    contents = {"phrases": PHRASES, "objects": OBJECTS, "attributes": ATTRIBUTES}
    damaging = Damaging(tmp_path, 3, images=GENOME_IMAGES, **contents)
    files = tuple(damaging.path(name) for name in contents)
    images = damaging.path("images")
    check(
        damaging,
        VisualGenomeAnnotations(images=images, files=files, image_root=tmp_path, image_at=image_at),
    )


@pytest.mark.slow
@pytest.mark.parametrize("split", [None, "testA"])
def test_referring_expressions_with_their_release(tmp_path: Path, split: str | None) -> None:
    damaging = Damaging(tmp_path, 4, entries=ENTRIES, pickle=REFS, instances=INSTANCES)
    config = ReferringExpressions(
        files=(damaging.path("entries"),),
        refs=damaging.path("pickle"),
        instances=damaging.path("instances"),
        refs_split=split,
    )
    check(damaging, config)


@pytest.mark.slow
def test_referring_expressions_with_boxes_of_their_own(tmp_path: Path) -> None:
    boxes = {"bbox": [1, 2, 3, 4], "width": 64, "height": 48}
    detections = {"1": [[10, 20, 5, 8, 0.93]], "2": [[1, 2, 3, 4]]}
    entries = [{**entry, **boxes} for entry in ENTRIES]
    damaging = Damaging(tmp_path, 5, entries=entries, detections=detections)
    files = (damaging.path("entries"),)
    check(damaging, ReferringExpressions(files=files, detections=damaging.path("detections")))


@pytest.mark.slow
def test_pickles_of_plain_values(tmp_path: Path) -> None:
    rng = random.Random(6)
    file = tmp_path / "refs.p"
    sound = [pickle.dumps(REFS, protocol=number) for number in range(pickle.HIGHEST_PROTOCOL + 1)]

    def read(content: bytes) -> None:
        file.write_bytes(content)
        read_plain_pickle(str(file))

    good, bad = answered((damaged(rng.choice(sound), rng) for _ in range(INPUTS)), read)
    assert good + bad == INPUTS
    assert min(good, bad) > 10
