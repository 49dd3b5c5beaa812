"""The shipped recipes train a few steps and are measured on small files in the published formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from x2kit.cli import main

CAPTIONS = ["A red dog, on the grass.", "Two dogs run!", "A cat's bed", "The sun over a boat"]
FOLDER = Path("data/finetune/coco_karpathy")
SMALL = """
model:
  text: {init_args: {layers: 1, width: 16, heads: 2, max_length: 64, vocab_size: null, tokenizer: {vocab_size: 60}}}
  fusion: {init_args: {layers: 1, heads: 2}}
data: {num_workers: 0, streams: {captions: {batch_size: 4}}}
training: {steps: 2, checkpoint_every: 2, device: cpu, threads: 1, log_every: 1}
evaluation: {every: 2}
"""
BEIT = "model: {vision: {init_args: {image_size: 32, patch_size: 16, width: 16, depth: 1, heads: 2}}}"
SWIN = """
model:
  vision: {init_args: {image_size: 32, patch_size: 4, width: 8, depths: [1, 1], heads: [1, 2], window: 4}}
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Karpathy's files: an entry for each caption in training, for each image in evaluation."""
    monkeypatch.chdir(tmp_path)
    FOLDER.mkdir(parents=True)
    names = [f"val2014/COCO_val2014_{42 + n:012d}.jpg" for n in range(4)]
    for number, name in enumerate(names):
        path = Path("data/images/coco", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (60 * number, 40, 90)).save(path)
    entries = [
        {"image": name, "caption": caption, "image_id": f"coco_{n}"}
        for n, name in enumerate(names)
        for caption in (CAPTIONS[n], f"{CAPTIONS[n]} again")
    ]
    (FOLDER / "coco_karpathy_train.json").write_text(json.dumps(entries))
    for split in ("val", "test"):
        images = [{"image": name, "caption": [CAPTIONS[n], "a dog"]} for n, name in enumerate(names)]
        (FOLDER / f"coco_karpathy_{split}.json").write_text(json.dumps(images))


def run(recipe: str, small: str, *options: str, folder: str = "run") -> dict[str, Any]:
    """Train and evaluate; the scores in English."""
    Path("small.yaml").write_text(SMALL)
    Path("vision.yaml").write_text(small)
    overlays = ("--config", "small.yaml", "--config", "vision.yaml")
    assert main(["train", recipe, *overlays, "--run-dir", folder, *options]) == 0
    assert main(["evaluate", folder]) == 0
    lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    assert len([line for line in lines if "loss" in line]) == 2
    found: dict[str, Any] = json.loads(Path(folder, "evaluation.json").read_text())["tasks"]["captions"][
        "result"
    ]
    assert found["score"] == "cider"
    assert found["mean"] == found["scores"]["en"]["cider"]
    return found["scores"]["en"]


def written(folder: str = "run") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        Path(folder, "evaluation-captions-predictions-en.json").read_text()
    )
    return found


@pytest.mark.parametrize("size", ["base", "large"])
def test_captions_of_x2vlm(size: str) -> None:
    scores = run(f"finetune/captioning-{size}", BEIT)
    assert (scores["images"], scores["references"]) == (4, 8)
    assert {"bleu_4", "rouge_l", "cider_plain", "chance"} <= scores.keys()
    assert [row["image_id"] for row in written()] == [42, 43, 44, 45]
    assert all(set(row) == {"image_id", "caption"} for row in written())


def test_captions_of_xvlm_and_its_cider_stage() -> None:
    run("finetune/captioning-xvlm", SWIN)
    scores = run("finetune/captioning-xvlm-cider", SWIN, "--model.init_from", "run", folder="cider")
    assert scores["images"] == 4
    losses = [json.loads(line) for line in Path("cider/metrics.jsonl").read_text().splitlines()]
    assert all("captions.caption" in line for line in losses if "loss" in line)
