"""Every recipe for retrieval trains, validates and evaluates on small files in the published layouts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from x2kit.cli import main
from x2kit.io.run_directory import read_metrics
from x2kit.recipe import read_recipe

from . import retrieval_files as files

WRITTEN: dict[str, Callable[[], None]] = {
    "coco": files.write_coco,
    "flickr30k": files.write_flickr30k,
    "multi30k": files.write_multi30k,
    "coco-multilingual": files.write_mscoco,
    "xflickrco": files.write_xflickrco,
    "wit": files.write_wit,
    "msrvtt": files.write_msrvtt,
    "msvd": files.write_msvd,
}
COUNTS = {
    "coco": {"en": (6, 30)},
    "flickr30k": {"en": (6, 30)},
    "multi30k": {code: (6, 6 * count) for code, count in files.MULTI30K.items()},
    "coco-multilingual": {"en": (6, 30), "zh": (6, 6), "ja": (6, 30)},
    "xflickrco": {code: (5, 5) if code in ("de", "id") else (6, 6) for code in files.XFLICKR},
    "wit": dict.fromkeys(files.WIT, (3, 6)),
    "msrvtt": {"en": (6, 6)},
    "msvd": {"en": (6, 18)},
}
"""Images and texts by language."""
BEIT = {"image_size": 32, "width": 16, "depth": 1, "heads": 2}
SWIN = {"image_size": 32, "width": 8, "depths": [1, 1], "heads": [1, 2], "window": 2}


def small(recipe: str) -> Iterator[str]:
    """Keys that make a run of two steps with tiny encoders."""
    model = read_recipe([recipe], checks="none").recipe.model
    vision = SWIN if type(model.vision).__name__ == "Swin" else BEIT
    yield from (f"--model.vision.{key}={value}" for key, value in vision.items())
    text = {"layers": 1, "width": 16, "heads": 2, "vocab_size": "null"}
    yield from (f"--model.text.{key}={value}" for key, value in text.items())
    yield from ("--model.fusion.layers=1", "--model.fusion.heads=2", "--data.num_workers=0")
    stream = "videos" if recipe.endswith(("msrvtt", "msvd")) else "images"
    yield from (f"--data.streams.{stream}.batch_size=4", "--training.steps=2", "--training.device=cpu")
    yield from ("--evaluation.every=1", "--training.warmup=0")


def trained(name: str) -> Path:
    recipe = f"finetune/retrieval-{name}"
    assert main(["train", recipe, "--run-dir", "run", *small(recipe)]) == 0
    return Path("run")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def counts(result: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {code: (row["candidates"], row["queries"]) for code, row in result["languages"].items()}


def read(file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(file).read_text())
    return found


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("coco", "val"),
        *(
            pytest.param(name, split, marks=pytest.mark.slow)
            for name, split in (
                ("coco-xvlm", "val"),
                ("flickr30k", "val"),
                ("flickr30k-xvlm", "val"),
                ("multi30k", "val"),
                ("coco-multilingual", "val"),
                ("xflickrco", "valid"),
                ("wit", "val"),
                ("msrvtt", "test"),
                ("msvd", "val"),
            )
        ),
    ],
)
def test_a_recipe_trains_validates_and_evaluates(name: str, split: str) -> None:
    data = name.removesuffix("-xvlm")
    WRITTEN[data]()
    run = trained(name)
    select = read_recipe([f"finetune/retrieval-{name}"], checks="none").recipe.evaluation.select
    assert [f"{split}.{select}" in line for line in read_metrics(run)] == [True, True]
    assert main(["evaluate", "run"]) == 0
    result = read("run/evaluation.json")
    assert counts(result) == COUNTS[data]
    assert result["selection"].items() >= {"metric": select, "split": split}.items()
    assert any("were selected on the split" in warning for warning in result["warnings"]) == (split == "test")
    assert not any("fewer captions" in warning for warning in result["warnings"])


@pytest.mark.slow
def test_weights_of_any_model_are_evaluated_by_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    for write in WRITTEN.values():
        write()
    trained("msrvtt")  # has frame positions
    for name, expected in COUNTS.items():
        recipe = f"evaluate/retrieval-{name}"
        assert main(["evaluate", recipe, "--model.init_from", "run"]) == 0
        assert counts(read(f"run/evaluation-retrieval-{name}.json")) == expected
    assert main(["evaluate", "run", "--recipe", "evaluate/retrieval-coco", "--split", "val"]) == 0
    assert "6 images, 30 texts a language, 5 captions an image" in capsys.readouterr().out
    assert read("run/evaluation-retrieval-coco-val.json")["split"] == "val"


def test_an_incomplete_multi30k_gives_a_warning() -> None:
    files.write_coco()
    trained("coco")
    files.MULTI30K["de"], before = 1, files.MULTI30K["de"]
    try:
        files.write_multi30k()
    finally:
        files.MULTI30K["de"] = before
    assert main(["evaluate", "run", "--recipe", "evaluate/retrieval-multi30k"]) == 0
    warnings = read("run/evaluation-retrieval-multi30k.json")["warnings"]
    assert any("fewer captions than in the published set (de 1 of 5)" in warning for warning in warnings)
