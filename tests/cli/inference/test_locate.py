from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import x2kit as package

Run = Callable[..., Any]
NAMES = ["pictures/red.png", "pictures/sub/green.jpg"]


def test_boxes_are_those_of_python(x2kit: Run, model: str, pictures: Path) -> None:
    texts = ["a red dog", "the sun"]
    done = x2kit("locate", "pictures", model, "--text", texts[0], "--text", texts[1], "--json")
    assert (done.status, done.err) == (0, "")
    loaded = package.load("weights")
    expected = [location.to_dict() for name in NAMES for location in loaded.locate_all(name, texts)]
    for line, location in zip(done.out.splitlines(), expected, strict=True):
        found = json.loads(line)
        assert (found["image"], found["text"]) == (location["image"], location["text"])
        assert found["boxes"][0]["pixels"] == pytest.approx(location["boxes"][0]["pixels"], abs=1e-3)


def test_boxes_are_drawn_in_a_file_for_each_result(x2kit: Run, model: str, broken: str) -> None:
    options = ("--text", "a dog", "--text", "the sun", "--draw", "boxes")
    done = x2kit("locate", "pictures", model, *options)
    assert done.status == 1
    assert done.err.startswith(f"{broken}: ")
    names = ["green-a-dog.png", "green-the-sun.png", "red-a-dog.png", "red-the-sun.png"]
    assert sorted(path.name for path in Path("boxes").iterdir()) == names
    with Image.open("boxes/red-a-dog.png") as drawn:
        assert drawn.size == (20, 30)
    for line in done.out.splitlines():
        probability, box, image, text = line.split("\t")
        assert 0 <= float(probability) <= 1
        assert all(0 <= int(side) <= 30 for side in box.split())
        assert image in NAMES
        assert text in ("a dog", "the sun")


def test_candidates_are_a_line_each_best_first(x2kit: Run, model: str, pictures: Path) -> None:
    done = x2kit("locate", "pictures/red.png", model, "--text", "a dog", "--candidates", "3")
    lines = done.out.splitlines()
    assert 1 <= len(lines) <= 3
    assert {line.split("\t")[3] for line in lines} == {"a dog"}
