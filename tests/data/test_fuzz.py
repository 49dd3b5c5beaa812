"""Readers of records return a result or raise DataError for ten thousand damaged inputs."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data import broken_records
from tests.data.stubs import stream
from tests.fuzzing import INPUTS, VALUES, answered, damaged, damaged_value
from x2kit.data.media.images import ImageLike
from x2kit.data.sources.config import JsonLines
from x2kit.data.sources.fields import parse_object, record_texts
from x2kit.data.sources.json_lines import record_of
from x2kit.data.transforms.boxes import guided_crop, place_boxes, read_boxes
from x2kit.data.transforms.view import View, draw_view, reduction, render_augmented
from x2kit.data.validation.check import draw_record
from x2kit.plugin import ImageSpec

SPEC = ImageSpec(size=8)
STREAMS = {
    task: stream(task, languages=("en", "de"), transform={"crop_scale": (0.2, 1.0), "flip": 0.5})
    for task in ("ImageText", "RegionText", "ParallelText", "PlainText")
}


def records(rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yield records of every form, each damaged differently."""
    forms: list[dict[str, Any]] = [
        broken_records.sound(1),
        {
            "id": 3,
            "binary": broken_records.packed(broken_records.encoded_image(2, "JPEG")),
            "desc": ["one", {"de": "zwei"}],
            "elems": [{"bb": [0, 0, 4, 4], "caption": "ear", "attributes": ["red", "big"]}],
        },
        {"source_text": "a dog", "target_text": "ein Hund"},
        {"texts": {"en": "a dog", "de": "ein Hund"}, "caption": {"en": "a dog"}},
        {"video_frames": [[broken_records.packed(broken_records.encoded_image(3))]], "caption": ["a", "b"]},
    ]
    for _ in range(INPUTS):
        yield damaged_value(rng.choice(forms), rng)


def test_damaged_json_lines_are_read_or_rejected() -> None:
    rng = random.Random(0)
    lines = [json.dumps(record).encode() for record, _ in zip(records(rng), range(50), strict=False)]
    config = JsonLines(files=(Path("records.jsonl"),))

    def read(line: bytes) -> None:
        list(record_texts(record_of(parse_object(line), config, ".")))

    good, bad = answered((damaged(rng.choice(lines), rng) for _ in range(INPUTS)), read)
    assert good + bad == INPUTS
    assert min(good, bad) > 10


def test_records_with_damaged_fields_are_drawn_or_rejected(tmp_path: Path) -> None:
    rng = random.Random(1)
    config = JsonLines(files=(Path("records.jsonl"),))
    draws = np.random.default_rng(0)

    def read(fields: Any) -> None:
        record = record_of(parse_object(json.dumps(fields).encode()), config, str(tmp_path))
        stream_of = STREAMS[rng.choice([*STREAMS])]
        draw_record(record, stream_of, SPEC, draws, tasks=[stream_of.task.build()])

    good, bad = answered(records(rng), read)
    assert good + bad == INPUTS
    assert min(good, bad) > 10


def test_damaged_records_of_unchecked_sources_are_drawn_or_rejected() -> None:
    rng = random.Random(2)
    draws = np.random.default_rng(0)
    sound = {
        "id": "a",
        "image": broken_records.encoded_image(1),
        "caption": ["a", {"en": "b", "de": "c"}],
        "regions": [{"bbox": [0, 0, 4, 4], "caption": "ear"}],
        "texts": {"en": "a", "de": "b"},
    }

    def read(record: Any) -> None:
        stream_of = STREAMS[rng.choice([*STREAMS])]
        draw_record(record, stream_of, SPEC, draws, tasks=[stream_of.task.build()])

    made = (damaged_value(sound, rng) for _ in iter(int, 1))
    good, bad = answered(islice((one for one in made if isinstance(one, dict)), INPUTS), read)
    assert good + bad == INPUTS
    assert min(good, bad) > 10


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_damaged_images_are_rendered_or_rejected(form: str) -> None:
    rng = random.Random(3)
    draws = np.random.default_rng(0)
    config = STREAMS["ImageText"].transform
    packed = io.BytesIO()
    pixels = draws.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(packed, form)
    original = packed.getvalue()

    def read(content: bytes) -> None:
        image = ImageLike(content)
        view = draw_view(image.size, config, draws)
        render_augmented(image.load(reduction(view, SPEC)), view, SPEC, config, draws, False)

    good, bad = answered((damaged(original, rng) for _ in range(INPUTS // 5)), read)
    assert good + bad == INPUTS // 5
    assert bad > 100


def test_damaged_boxes_are_placed_or_rejected() -> None:
    rng = random.Random(4)
    draws = np.random.default_rng(0)
    numbers = (0, 1, -1, 0.5, 8, 15.9999, 16, 16.0005, 17, 1e-9, 1e30, float("nan"), float("inf"))

    def box() -> Any:
        if rng.random() < 0.1:
            return rng.choice(VALUES)
        count = rng.choice((4, 4, 4, 4, 4, 3, 5))
        return [rng.choice(numbers) if rng.random() < 0.5 else rng.random() * 12 for _ in range(count)]

    def read(boxes: list[Any]) -> None:
        size = (16, rng.choice((1, 8, 16)))
        found = read_boxes(boxes, size)
        view = View(size, guided_crop(found[0].tolist(), size, draws), rng.random() < 0.5)
        placed = place_boxes(found, view)
        kept = placed.bbox[placed.kept]
        assert ((kept >= -1e-4) & (kept <= 1 + 1e-4)).all()

    good, bad = answered(([box() for _ in range(rng.choice((1, 1, 2, 30)))] for _ in range(INPUTS)), read)
    assert good + bad == INPUTS
    assert min(good, bad) > 10
