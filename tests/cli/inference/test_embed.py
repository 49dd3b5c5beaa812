from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import x2kit as package

Run = Callable[..., Any]
NAMES = ["pictures/red.png", "pictures/sub/green.jpg"]


def test_vectors_are_those_of_python(x2kit: Run, model: str, pictures: Path) -> None:
    done = x2kit("embed", "pictures", model, "--text", "a red dog", "--output", "out.npy")
    assert (done.status, done.out, done.err) == (0, "", "")
    loaded = package.load("weights")
    expected = np.concatenate([loaded.embed_texts(["a red dog"]).vectors, loaded.embed_images(NAMES).vectors])
    np.testing.assert_allclose(np.load("out.npy"), expected, rtol=0, atol=1e-6)
    names = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert names == [{"text": "a red dog"}, *({"image": name} for name in NAMES)]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_broken_image_is_named_and_has_no_row(x2kit: Run, model: str, broken: str, workers: str) -> None:
    options = ("--batch-size", "1", "--workers", workers, "--output", "out.npy")
    done = x2kit("embed", "pictures", model, *options)
    assert done.status == 1
    assert done.err.startswith(f"{broken}: not a readable image")
    assert len(done.err.splitlines()) == 1
    assert np.isfinite(np.load("out.npy")).all()
    assert [json.loads(line)["image"] for line in Path("out.jsonl").read_text().splitlines()] == NAMES


def test_lines_of_images_and_texts_keep_their_order(
    x2kit: Run, model: str, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = '{"text": "the sun"}\npictures/red.png\n{"image": "pictures/red.png", "text": "a cat"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    done = x2kit("embed", "-", model, "--json")
    assert done.status == 0
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [next(iter(row.items())) for row in rows] == [
        ("text", "the sun"), ("image", "pictures/red.png"), ("image", "pictures/red.png"), ("text", "a cat")
    ]  # fmt: skip
    assert all(abs(np.linalg.norm(row["vector"]) - 1) < 1e-6 for row in rows)


def test_people_see_the_first_numbers(x2kit: Run, model: str, pictures: Path) -> None:
    line = x2kit("embed", "pictures/red.png", model).out
    name, numbers = line.rstrip("\n").split("\t")
    assert name == "pictures/red.png"
    assert numbers.endswith(" … (6)")
    assert len(numbers.split()) == 6


def test_an_existing_file_is_refused_before_the_model_is_loaded(x2kit: Run, pictures: Path) -> None:
    Path("out.npy").touch()
    done = x2kit("embed", "pictures", "--model", "no-such-model", "--output", "out.npy")
    assert (done.status, done.err) == (2, "--output: out.npy: exists; delete it or choose another name\n")


def test_nothing_to_embed_is_wrong_usage(x2kit: Run) -> None:
    done = x2kit("embed", "--model", "weights")
    assert (done.status, done.err) == (
        2, "nothing to embed; give files, folders, -, --text TEXT or --texts FILE\n"
    )  # fmt: skip
