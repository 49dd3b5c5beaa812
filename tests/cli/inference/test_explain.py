from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import x2kit as package

Run = Callable[..., Any]


def test_the_box_is_that_of_python(x2kit: Run, model: str, pictures: Path) -> None:
    done = x2kit("explain", "pictures/red.png", model, "--text", "a red dog", "--json")
    assert (done.status, done.err) == (0, "")
    found = json.loads(done.out)
    expected = package.load("weights").explain("pictures/red.png", "a red dog")
    assert (found["image"], found["text"], found["method"]) == (
        expected.image, expected.text, expected.method
    )  # fmt: skip
    assert found["box"]["pixels"] == pytest.approx(expected.box.pixels, abs=1e-3)


def test_every_word_has_a_peak_and_a_drawing(x2kit: Run, model: str, pictures: Path) -> None:
    options = ("--text", "a red dog", "--words", "--draw", "maps", "--json")
    done = x2kit("explain", "pictures/red.png", model, *options)
    assert done.status == 0
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["word"] for row in rows] == ["a", "red", "dog"]
    expected = package.load("weights").explain("pictures/red.png", "a red dog")
    for row, word in zip(rows, expected.words, strict=True):
        height, width = word.heat.shape
        x, y = row["peak"]
        assert word.heat[int(y * height), int(x * width)] == word.heat.max()
        with Image.open(row["drawing"]) as drawn:
            assert drawn.size == (20, 30)


def test_lines_for_people_have_box_image_and_text(x2kit: Run, model: str, broken: str) -> None:
    done = x2kit("explain", "pictures", model, "--text", "a dog")
    assert done.status == 1
    assert done.err.startswith(f"{broken}: ")
    assert [line.split("\t")[1:] for line in done.out.splitlines()] == [
        ["pictures/red.png", "a dog"], ["pictures/sub/green.jpg", "a dog"]
    ]  # fmt: skip
