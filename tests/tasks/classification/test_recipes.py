"""The shipped recipes train a few steps and are measured on small files in the published formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.forked import run_ranks
from x2kit.cli import main

ROWS = 4
LABELS = ("entailment", "neutral", "contradiction", "-")
SENTENCES = (
    "Both images show dogs.",
    "A cat is on the left.",
    "Three birds fly.",
    "The left image has a car.",
)
TEXT = "{layers: 1, width: 16, heads: 2, dropout: 0.0, max_length: 96, vocab_size: null, tokenizer: {vocab_size: 60}}"
BEIT = "{image_size: 32, patch_size: 16, width: 16, depth: 1, heads: 2, drop_path: 0.0}"
SWIN = "{image_size: 32, width: 8, depths: [1, 1], heads: [1, 2], window: 2, drop_path: 0.0}"
SMALL = """
model:
  vision: {{init_args: {vision}}}
  text: {{init_args: {text}}}
  fusion: {{init_args: {{layers: 1, heads: 2, dropout: 0.0}}}}
data: {{num_workers: 0, streams: {{{stream}: {{batch_size: 2}}}}}}
training: {{steps: 2, checkpoint_every: 2, accumulation: 1, device: cpu, threads: 1, log_every: 1}}
evaluation: {{every: 1, batch_size: 2}}
"""


def written(path: str, content: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content, encoding="utf-8")


def image(path: str, number: int) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (60 * (number % 4), 40, 90)).save(path)


def nlvr2_files() -> None:
    for split in ("train", "dev", "test"):
        entries = []
        for n, sentence in enumerate(SENTENCES):
            names = [f"{split}/{split}-{n}-0-img{place}.png" for place in range(2)]
            for place, name in enumerate(names):
                image(f"data/images/nlvr2/{name}", n + place)
            entries.append({"sentence": sentence, "label": str(n % 2 == 0), "images": names})
        written(f"data/finetune/nlvr_{split}.json", json.dumps(entries))


def marvl_files() -> None:
    for code in ("id", "sw", "ta", "tr", "zh"):
        entries = []
        for n in range(ROWS):
            names = [f"images/marvl_official/{code}/images/{n}/{n}-{place}.jpg" for place in range(2)]
            for place, name in enumerate(names):
                image(f"data/{name}", n + place)
            entries.append({"sentence": f"左右都有狗 {n}", "label": n % 2 == 0, "images": names})
        written(f"data/finetune/marvl/marvl-{code}.json", json.dumps(entries))


def xvnli_files() -> None:
    for n in range(ROWS):
        image(f"data/images/flickr30k/100{n}.jpg", n)
    for code in ("en", "ar", "es", "fr", "ru"):
        for split in ("train", "dev", "test") if code == "en" else ("test",):
            lines = [
                {
                    "Flikr30kID": f"100{n}",
                    "gold_label": LABELS[n],
                    "sentence1": "un",
                    "sentence2": f"{text} {code}",
                }
                for n, text in enumerate(SENTENCES)
            ]
            written(
                f"data/iglue/XVNLI/annotations/{code}/{split}.jsonl",
                "".join(json.dumps(x) + "\n" for x in lines),
            )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def small(stream: str = "pairs", vision: str = BEIT) -> None:
    Path("small.yaml").write_text(SMALL.format(stream=stream, vision=vision, text=TEXT))


def scores(run: str = "run") -> dict[str, Any]:
    """Return the result of the only task."""
    (found,) = json.loads(Path(run, "evaluation.json").read_text())["tasks"].values()
    result: dict[str, Any] = found["result"]
    return result


def train_and_evaluate(recipe: str, *options: str, run: str = "run") -> dict[str, Any]:
    command = ["train", recipe, "--config", "small.yaml", "--run-dir", run, *options]
    assert main(command) == 0
    assert main(["evaluate", run]) == 0
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    assert len([line for line in lines if "loss" in line]) == 2
    assert [line for line in lines if any("mean" in key for key in line)], "validated on dev"
    return scores(run)


@pytest.mark.parametrize(("form", "vision"), [("base", BEIT), ("xvlm", SWIN)])
def test_nlvr2_is_measured_in_both_forms(form: str, vision: str) -> None:
    nlvr2_files()
    small(vision=vision)
    found = train_and_evaluate(f"finetune/nlvr2-{form}")["scores"]["en"]
    assert (found["rows"], found["chance"], found["most_frequent"]) == (ROWS, 0.5, 0.5)
    assert found["accuracy"] == found["correct"] / ROWS
    predictions = json.loads(Path("run/evaluation-nlvr2-predictions-en.json").read_text())
    assert {type(each["prediction"]) for each in predictions} == {bool}


def test_marvl_is_measured_zero_shot_in_five_languages() -> None:
    nlvr2_files()
    marvl_files()
    small()
    found = train_and_evaluate("finetune/marvl")
    assert list(found["scores"]) == ["en", "id", "sw", "ta", "tr", "zh"]
    assert {code for code, row in found["scores"].items() if row["trained_with_images"]} == {"en"}
    others = [row["accuracy"] for code, row in found["scores"].items() if code != "en"]
    assert found["mean_zero_shot"] == pytest.approx(sum(others) / 5)


def test_xvnli_leaves_out_lines_without_a_label() -> None:
    xvnli_files()
    small("hypotheses")
    found = train_and_evaluate("finetune/xvnli")
    assert list(found["scores"]) == ["en", "ar", "es", "fr", "ru"]
    assert {row["rows"] for row in found["scores"].values()} == {3}
    assert found["scores"]["ar"]["chance"] == pytest.approx(1 / 3)


def test_two_images_need_a_fusion_encoder_that_takes_both(capsys: pytest.CaptureFixture[str]) -> None:
    nlvr2_files()
    small()
    together = ("--data.streams.pairs.task.init_args.fused", "together")
    assert (
        main(["train", "finetune/nlvr2-base", "--config", "small.yaml", "--run-dir", "run", *together]) != 0
    )
    said = capsys.readouterr().err
    assert "model.fusion" in said
    assert (
        "CrossBert fuses a text with 1 image at once, data.streams.pairs.task Classification with 2" in said
    )
    assert "model.heads.answer_images: should be 1 for images that are fused together, found 2" in said


@pytest.mark.slow
@pytest.mark.parametrize(("form", "vision"), [("base", BEIT), ("xvlm", SWIN)])
def test_two_ranks_train_and_measure_as_one(form: str, vision: str, tmp_path: Path) -> None:
    nlvr2_files()
    small(vision=vision)
    options = ("--data.streams.pairs.batch_size", "4", "--training.lr", "1e-3", "--training.warmup", "0")
    one = train_and_evaluate(f"finetune/nlvr2-{form}", *options)
    train = ["train", f"finetune/nlvr2-{form}", "--config", "small.yaml", "--run-dir", "two", *options]
    for command in (train, ["evaluate", "two"]):
        done = run_ranks(2, *command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    weights = [load_file(Path(run, "weights/model.safetensors")) for run in ("run", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=1e-4)
    assert scores("two") == one


def test_nlvr2_starts_from_text_assignment() -> None:
    """X-VLM's pretraining for NLVR2 on pretraining images, then fine-tuning from its weights."""
    nlvr2_files()
    folders = [f"data/{name}" for name in ("coco", "vg", "sbu", "cc3m")]
    for number, folder in enumerate(folders):
        image(f"{folder}/{number}.png", number)
        lines = [{"image": f"{number}.png", "caption": f"{SENTENCES[number]} {n}"} for n in range(2)]
        written(f"{folder}/part.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    Path("pretrain.yaml").write_text(
        SMALL.format(stream="images", vision=SWIN, text=TEXT).partition("evaluation:")[0]
    )
    options = ("--data.streams.images.batch_size", "8", "--training.precision", "fp32")
    command = ["train", "finetune/nlvr2-xvlm-pretrain", "--config", "pretrain.yaml", "--run-dir", "before"]
    assert main([*command, *options]) == 0
    small(vision=SWIN)
    train_and_evaluate("finetune/nlvr2-xvlm", "--model.init_from", "before")
    origins = json.loads(Path("run/initialisation.json").read_text())["tensors"]
    fresh = {name for name, row in origins.items() if row["origin"] == "fresh"}
    assert {name.partition(".")[0] for name in fresh} == {"answer_head"}
