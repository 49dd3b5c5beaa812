from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import x2kit as package

Run = Callable[..., Any]


def test_every_image_meets_every_text(x2kit: Run, model: str, pictures: Path) -> None:
    Path("texts.txt").write_text("the sun\n\n")
    done = x2kit("match", "pictures", model, "--text", "a red dog", "--texts", "texts.txt", "--json")
    assert (done.status, done.err) == (0, "")
    rows = [json.loads(line) for line in done.out.splitlines()]
    names = ["pictures/red.png", "pictures/sub/green.jpg"]
    assert [(row["image"], row["text"]) for row in rows] == [
        (name, text) for name in names for text in ("a red dog", "the sun")
    ]
    (expected,) = package.load("weights").match([names[1]], ["the sun"])
    assert rows[3] == pytest.approx(expected.to_dict(), abs=1e-6)


def test_lines_for_people_start_with_the_probability(x2kit: Run, model: str, pictures: Path) -> None:
    done = x2kit("match", "pictures/red.png", model, "--text", "a red dog")
    probability, similarity, image, text = done.out.rstrip("\n").split("\t")
    assert 0 <= float(probability) <= 1
    assert -1 <= float(similarity) <= 1
    assert (image, text) == ("pictures/red.png", "a red dog")


@pytest.mark.parametrize("size", ["1", "32"])
def test_a_broken_image_costs_its_own_line_alone(x2kit: Run, model: str, broken: str, size: str) -> None:
    done = x2kit("match", "pictures", model, "--text", "a dog", "--text", "a cat", "--batch-size", size)
    assert done.status == 1
    images = [line.split("\t")[2] for line in done.out.splitlines()]
    assert images == ["pictures/red.png"] * 2 + ["pictures/sub/green.jpg"] * 2
    assert done.err.startswith(f"{broken}: ")
    assert len(done.err.splitlines()) == 1


def test_a_line_brings_its_own_text(
    x2kit: Run, model: str, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = '{"image": "pictures/red.png", "text": "a cat"}\n{"image": "pictures/red.png", "text": " "}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    done = x2kit("match", "-", model)
    assert [line.split("\t")[2:] for line in done.out.splitlines()] == [["pictures/red.png", "a cat"]]
    assert done.status == 1
    assert done.err.startswith("pictures/red.png: ")


def test_images_without_texts_are_wrong_usage(x2kit: Run, pictures: Path) -> None:
    done = x2kit("match", "pictures", "--model", "no-such-model")
    assert (done.status, done.err) == (
        2, "no text to use with the images; give --text TEXT or --texts FILE\n"
    )  # fmt: skip


def test_a_missing_file_of_texts_is_named(x2kit: Run, pictures: Path) -> None:
    done = x2kit("match", "pictures", "--model", "m", "--texts", "none.txt")
    assert done.status == 2
    assert done.err.startswith("--texts: none.txt: cannot be read: ")


def test_a_missing_model_is_named(x2kit: Run, pictures: Path) -> None:
    done = x2kit("match", "pictures", "--model", "no-such-model", "--text", "a dog")
    assert (done.status, done.out) == (2, "")
    assert "no-such-model" in done.err
