"""The recipes of RefCOCO+ train a few steps and measure all splits, on small files of the published formats."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.docs.tiny_models import write_bert
from tests.interop.made import checkpoint
from x2kit.cli import main

SIZE = (64, 48)
SPLITS = {"train": 8, "val": 2, "testA": 2, "testB": 1}
"""Images of each split; two expressions about each."""
SMALL = """
model:
  text:
    init_args: {layers: 1, width: 16, heads: 2, mlp_ratio: 2.0, max_length: 24, tokenizer: {vocab_size: 60}}
  fusion: {init_args: {layers: 4, heads: 2, mlp_ratio: 2.0}}
  heads: {embed_dim: 8}
data:
  num_workers: 0
training: {steps: 3, device: cpu, precision: fp32}
"""
VISION = {
    "beit": "{image_size: 32, width: 16, depth: 1, heads: 2}",
    "swin": "{image_size: 64, width: 8, depths: [1, 1, 1, 1], heads: [1, 1, 1, 1], window: 2}",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of RefCOCO+ where the recipes expect them, and an overlay of small sizes."""
    monkeypatch.chdir(tmp_path)
    release, images = tmp_path / "data/finetune/refcoco+", tmp_path / "images/coco/train2014"
    release.mkdir(parents=True)
    images.mkdir(parents=True)
    entries: dict[str, list[Any]] = {"train": [], "val": [], "test": []}
    refs, annotations = [], []
    rng = np.random.default_rng(0)
    for number, split in enumerate([split for split, count in SPLITS.items() for _ in range(count)], 1):
        name = f"COCO_train2014_{number:012}.jpg"
        Image.fromarray(rng.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)).save(images / name)
        for place, text in enumerate(("man in red shirt", "the woman who holds a white cup")):
            id_ = 10 * number + place
            refs.append(
                {
                    "ref_id": id_,
                    "ann_id": id_,
                    "image_id": number,
                    "category_id": 1,
                    "split": split,
                    "sentences": [],
                }
            )
            annotations.append({"id": id_, "image_id": number, "bbox": [4 + 20 * place, 6.5, 24, 30]})
            file = "test" if split.startswith("test") else split
            entries[file].append({"image": f"train2014/{name}", "text": text, "ref_id": id_})
    for file, found in entries.items():
        (release.parent / f"refcoco+_{file}.json").write_text(json.dumps(found))
    (release / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=0))
    sizes = [
        {"id": number, "width": SIZE[0], "height": SIZE[1]} for number in range(1, sum(SPLITS.values()) + 1)
    ]
    (release / "instances.json").write_text(
        json.dumps({"images": sizes, "annotations": annotations, "categories": []})
    )
    detections = {
        size["id"]: [[4, 6.5, 24, 30, 0.9], [24, 6.5, 24, 30, 0.8], [0, 0, 9, 9, 0.1]] for size in sizes
    }
    (release / "dets.json").write_text(json.dumps(detections))
    (tmp_path / "small.yaml").write_text(SMALL)
    for name, settings in VISION.items():
        (tmp_path / f"{name}.yaml").write_text(f"model: {{vision: {{init_args: {settings}}}}}")
    return tmp_path


def train(recipe: str, run: str, vision: str, stream: str, *keys: str) -> None:
    """Train by the command line."""
    overlays = ("--config", "small.yaml", "--config", f"{vision}.yaml")
    rows = (f"--data.streams.{stream}.batch_size", "4", f"--data.streams.{stream}.max_tokens", "20")
    assert main(["train", recipe, "--run-dir", run, *overlays, *rows, *keys]) == 0


def measured(weights: str = "run", name: str = "evaluation", *options: str) -> dict[str, Any]:
    """Evaluate by the command line. Returns the result of each split."""
    assert main(["evaluate", weights, *options]) == 0
    result = json.loads(Path(f"{weights}/{name}.json").read_text())
    splits = {split: task.get("result", result)["grounding"]["en"] for split, task in result["tasks"].items()}
    assert {split: (row["images"], row["regions"]) for split, row in splits.items()} == {
        split: (count, 2 * count) for split, count in SPLITS.items() if split != "train"
    }
    for split, row in splits.items():
        predictions = json.loads(Path(f"{weights}/{name}-{split}-predictions-en.json").read_text())
        assert len(predictions) == row["regions"]
        assert all(len(each["bbox"]) == 4 for each in predictions)
    return splits


@pytest.mark.parametrize("recipe", ["refcoco-base", "refcoco-large"])
def test_the_box_head_is_trained_and_every_split_measured(folder: Path, recipe: str) -> None:
    train(
        f"finetune/{recipe}", "run", "beit", "expressions", "--data.streams.expressions.task.max_images", "4"
    )
    last = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert {"expressions.bbox", "expressions.giou"} <= last.keys()
    assert not {"expressions.itc", "expressions.itm", "expressions.mlm"} & last.keys()
    measured()


def test_weak_grounding_needs_no_box_in_training(folder: Path) -> None:
    train("finetune/refcoco-weak", "run", "beit", "expressions")
    for row in measured().values():
        assert row["with_detections"] == row["regions"]
        assert (row["random_detection"], row["best_detection"]) == (pytest.approx(1 / 3), 1)


def test_xvlm_trains_the_box_head_on_regions_first(folder: Path) -> None:
    line = {
        "image": str(folder / "images/coco/train2014/COCO_train2014_000000000001.jpg"),
        "regions": [
            {"bbox": [4, 6, 24, 30], "caption": "a man"},
            {"bbox": [24, 6, 24, 30], "caption": "a cup"},
        ],
    }
    for name in ("coco_objs", "vg_objs", "vg_regions"):
        (folder / "data" / name).mkdir()
        (folder / "data" / name / "1.jsonl").write_text(f"{json.dumps(line)}\n" * 4)
    train(
        "finetune/refcoco-xvlm-pretrain",
        "stage",
        "swin",
        "regions",
        "--data.streams.regions.task.max_images",
        "2",
    )
    start = ("--model.init_from", "./stage", "--data.streams.expressions.task.max_images", "4")
    train("finetune/refcoco-xvlm", "run", "swin", "expressions", *start)
    measured()


def test_a_converted_checkpoint_is_measured_by_the_evaluation_of_a_recipe(folder: Path) -> None:
    checkpoint("xvlm_grounding_base_384", folder / "refcoco.th")
    write_bert(folder / "bert")
    assert main(["convert", "refcoco.th", "weights", "--tokenizer", "./bert"]) == 0
    measured("weights", "evaluation-refcoco-base", "--recipe", "finetune/refcoco-base")
