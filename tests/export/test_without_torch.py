"""The script of the page searches without torch, and finds what x2kit finds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.docs.pages import DOCS, blocks
from tests.docs.shell import run_without_torch
from tests.inference.conftest import picture
from x2kit.inference import Model

SCRIPT = DOCS / "examples" / "search_without_torch.py"
QUERIES = ("A dog, under a TREE", "ein Hund", "一只狗", "boat", "the sun", "собака под деревом", "fish bell")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty images of the model's size in two folders."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(30):
        place = folder / ("old" if number % 2 else "new")
        place.mkdir(exist_ok=True)
        picture(number, (32, 32)).save(place / f"{number}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_it_has_at_most_60_lines_and_is_the_one_on_the_page() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    (shown,) = (block.text for block in blocks(DOCS / "how-to" / "deploy-a-model.md") if block.title)
    assert shown == text


def test_it_finds_the_first_ten_images_of_x2kit(exported: Path, model: Model, photos: Path) -> None:
    done = run_without_torch(photos, [str(SCRIPT), str(exported), ".", "-"], "\n".join(QUERIES))
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    files = sorted(photos.rglob("*.png"))
    similarity = model.similarity(files, [*QUERIES])
    for column, query in enumerate(QUERIES):
        order = np.argsort(-similarity[:, column], kind="stable")[:10]
        assert found[column]["query"] == query
        assert [name for name, _ in found[column]["hits"]] == [
            str(files[place].relative_to(photos)) for place in order
        ]
        values = [value for _, value in found[column]["hits"]]
        np.testing.assert_allclose(values, similarity[order, column], atol=1e-5)


@pytest.mark.parametrize("module", ["torch", "x2kit", "transformers"])
def test_the_process_cannot_import_torch(module: str, tmp_path: Path) -> None:
    (tmp_path / "try.py").write_text(f"import {module}\n")
    done = run_without_torch(tmp_path, ["try.py"])
    assert done.returncode == 1
    assert f"import of {module} halted; None in sys.modules" in done.stderr
