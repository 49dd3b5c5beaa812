"""The shipped recipes train a few steps and are measured on small files in the published formats."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.docs.tiny_models import write_bert
from tests.forked import run_ranks
from tests.interop.made import checkpoint
from x2kit.cli import main

ROWS = 4
ANSWERS = ["yes", "no", "red", "dogs"]
OPTIONS = ["a0", "a1", "a2", "a3", "a4"]
SMALL = """
model:
  vision: {init_args: {image_size: 32, patch_size: 16, width: 16, depth: 1, heads: 2}}
  text: {init_args: {layers: 1, width: 16, heads: 2, max_length: 64, vocab_size: null, tokenizer: {vocab_size: 60}}}
  fusion: {init_args: {layers: 1, heads: 2}}
data: {num_workers: 0, streams: {questions: {batch_size: 2}}}
training: {steps: 2, checkpoint_every: 2, accumulation: 1, device: cpu, threads: 1, log_every: 1}
"""


def written(path: str, content: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content, encoding="utf-8")


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (60 * number, 40, 90)).save(buffer, "JPEG")
    return buffer.getvalue()


def images(folder: str, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number % 4))


def question(number: int) -> str:
    return f"What is on the {['left', 'table', 'road', 'sea'][number % 4]}?"


def vqa_files() -> None:
    names = [f"val2014/COCO_{n}.jpg" for n in range(ROWS)]
    images("data/images/coco", names)
    images("data/images/vg", ["image/1.jpg"])
    entries = [
        {"question_id": 5000 + n, "question": question(n), "image": name, "dataset": "vqa"}
        for n, name in enumerate(names)
    ]
    answered = [{**each, "answer": [ANSWERS[n]] * 7 + ["other"] * 3} for n, each in enumerate(entries)]
    genome = {"question_id": 9, "question": "Who?", "image": "image/1.jpg", "dataset": "vg", "answer": "no"}
    written("data/finetune/vqa_train.json", json.dumps(answered[:3]))
    written("data/finetune/vqa_val.json", json.dumps(answered))
    written("data/finetune/vg_qa.json", json.dumps([genome]))
    written("data/finetune/vqa_test.json", json.dumps(entries))
    written("data/finetune/answer_list.json", json.dumps(ANSWERS))


def gqa_files() -> None:
    images("data/images/gqa", [f"{n}.jpg" for n in range(ROWS)])
    entries = [
        {"img_id": str(n), "question_id": f"0{n}", "sent": question(n), "label": {ANSWERS[n]: 0.9, "no": 0.3}}
        for n in range(ROWS)
    ]
    for split in ("train", "valid"):
        written(f"data/finetune/gqa_{split}.json", json.dumps(entries))
    written(
        "data/finetune/trainval_ans2label.json", json.dumps({answer: n for n, answer in enumerate(ANSWERS)})
    )
    for code in ("en", "bn", "de", "id", "ko", "pt", "ru", "zh"):
        asked = {
            f"0{n}": {"imageId": str(n), "question": f"{question(n)} {code}", "answer": ANSWERS[n]}
            for n in range(ROWS)
        }
        written(f"data/finetune/xgqa/testdev_balanced_questions_{code}.json", json.dumps(asked))


def frames(path: str) -> None:
    written(path, json.dumps([base64.b64encode(jpeg(n)).decode() for n in range(4)]))


def video_files(folder: str, names: Sequence[str], paths: Sequence[str]) -> None:
    for path in paths:
        frames(path)
    for split in ("train", "val", "test"):
        lines = [
            json.dumps({"question": question(n), "answer": ["red", "rare"][n % 2], "video_id": name})
            for n, name in enumerate(names)
        ]
        written(f"{folder}/{split}.jsonl", "\n".join(lines) + "\n")
    written(f"{folder}/train_ans2label.json", json.dumps({answer: n for n, answer in enumerate(ANSWERS)}))


def msrvtt_files() -> None:
    paths = [f"data/videos/msrvtt/video_{n}.json" for n in range(ROWS)]
    video_files("data/finetune/msrvtt_qa", [f"video{n}" for n in range(ROWS)], paths)


def msvd_files() -> None:
    names = [f"clip_{n}_5" for n in range(ROWS)]
    video_files("data/finetune/msvd_qa", names, [f"data/videos/msvd/{name}.json" for name in names])


def next_files() -> None:
    for split in ("train", "val", "test"):
        table = io.StringIO()
        rows = csv.writer(table)
        rows.writerow(["video", "question", "answer", "qid", *OPTIONS])
        for n in range(ROWS):
            rows.writerow([n, f"{question(n)}, why", n, n, *(f"to see, {option}" for option in OPTIONS)])
        written(f"data/finetune/next_qa/{split}.csv", table.getvalue())
    for n in range(ROWS):
        frames(f"data/videos/next_qa/{n}.json")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new working directory, with the settings of a small model."""
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)


def run(recipe: str, *options: str) -> dict[str, Any]:
    """Train and evaluate; the result of the only task."""
    assert main(["train", recipe, "--config", "small.yaml", "--run-dir", "run", *options]) == 0
    assert main(["evaluate", "run"]) == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert len([line for line in lines if "loss" in line]) == 2
    (found,) = json.loads(Path("run/evaluation.json").read_text())["tasks"].values()
    result: dict[str, Any] = found["result"]
    return result


def predictions(task: str, language: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        Path(f"run/evaluation-{task}-predictions-{language}.json").read_text()
    )
    return found


@pytest.mark.parametrize("size", ["base", "large"])
def test_vqa_writes_the_answers_for_the_server(size: str) -> None:
    vqa_files()
    found = run(f"finetune/vqa-{size}", "--model.heads.decoder_layers", "1")["scores"]["en"]
    assert (found["questions"], found["annotated_questions"], found["accuracy"]) == (ROWS, 0, None)
    results = predictions("vqa", "en")
    assert [each["question_id"] for each in results] == [5000 + n for n in range(ROWS)]
    assert {each["answer"] for each in results} <= set(ANSWERS)


def test_vqa_classification_is_measured_on_held_out_answers() -> None:
    vqa_files()
    options = ("--model.heads.answers", "4", "--evaluation.split", "val")
    files = ("--data.streams.questions.source.init_args.files", "[data/finetune/vqa_train.json]")
    found = run("finetune/vqa-classification", *options, *files)["scores"]["en"]
    assert found["annotated_questions"] == ROWS
    assert 0 <= found["accuracy"] <= 1
    assert found["chance"] == pytest.approx(0.25)


def test_xgqa_is_measured_in_eight_languages() -> None:
    gqa_files()
    found = run("finetune/xgqa", "--model.heads.decoder_layers", "1")
    assert list(found["scores"]) == ["en", "bn", "de", "id", "ko", "pt", "ru", "zh"]
    assert all(each["questions"] == ROWS for each in found["scores"].values())
    assert found["scores"]["en"]["trained_with_images"]
    assert not found["scores"]["zh"]["trained_with_images"]


@pytest.mark.parametrize(("name", "files"), [("msrvtt-qa", msrvtt_files), ("msvd-qa", msvd_files)])
def test_questions_about_videos_count_rare_answers_as_wrong(name: str, files: Any) -> None:
    files()
    found = run(f"finetune/{name}", "--model.heads.answers", "4")["scores"]["en"]
    assert found["questions"] == ROWS
    assert found["accuracy"] <= 0.5


def test_next_qa_chooses_an_option() -> None:
    next_files()
    path = "{value}.json"
    options = [
        f"--{place}.source.init_args.image_path={path}" for place in ("data.streams.questions", "evaluation")
    ]
    found = run("finetune/next-qa", *options)["scores"]["en"]
    assert found["chance"] == pytest.approx(0.2)
    assert {each["answer"] for each in predictions("qa", "en")} <= set(range(5))


STEADY = (
    *(
        "--data.streams.questions.batch_size",
        "4",
        "--training.steps",
        "1",
        "--training.checkpoint_every",
        "1",
    ),
    *("--model.vision.init_args.drop_path", "0", "--model.text.init_args.dropout", "0"),
    *("--model.fusion.init_args.dropout", "0", "--evaluation.every", "null", "--evaluation.select", "null"),
)
"""A step of one batch of all records, without random layers."""
SHARED = {
    "vqa-base": (vqa_files, "--model.heads.decoder_layers", "1"),
    "msrvtt-qa": (msrvtt_files, "--model.heads.answers", "4"),
    "next-qa": (next_files, "--data.streams.questions.source.init_args.image_path", "{value}.json"),
}


def step(name: str) -> tuple[float, float]:
    """Loss and norm of the gradient; Adam's first step would magnify rounding errors of gradients near 0."""
    (line,) = (json.loads(line) for line in Path(name, "metrics.jsonl").read_text().splitlines())
    return line["loss"], line["gradient_norm"]


def train_shared(name: str, directory: str, *options: str) -> list[str]:
    _, *own = SHARED[name]
    without = ["--evaluation.source.init_args.image_path", "{value}.json"] if name == "next-qa" else []
    chosen = ["--config", "small.yaml", "--run-dir", directory, *own, *without, *STEADY, *options]
    return ["train", f"finetune/{name}", *chosen]


@pytest.mark.parametrize("name", SHARED)
def test_a_step_in_two_parts_is_the_step_in_one(name: str) -> None:
    SHARED[name][0]()
    assert main(train_shared(name, "whole")) == 0
    assert main(train_shared(name, "parts", "--training.accumulation", "2")) == 0
    assert step("parts") == pytest.approx(step("whole"), rel=1e-4)


@pytest.mark.slow
def test_two_ranks_train_and_measure_as_one() -> None:
    """Half of the questions have an answer of the list, all in different parts of the batch."""
    msrvtt_files()
    assert main(train_shared("msrvtt-qa", "one")) == 0
    done = run_ranks(2, *train_shared("msrvtt-qa", "two"), cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    assert step("two") == pytest.approx(step("one"), rel=1e-4)
    assert main(["evaluate", "one", "--output", "one.json"]) == 0
    done = run_ranks(2, "evaluate", "one", "--output", "two.json", cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    one, two = (json.loads(Path(f"{name}.json").read_text())["tasks"] for name in ("one", "two"))
    assert one == two


def test_a_converted_checkpoint_answers_for_the_server() -> None:
    vqa_files()
    checkpoint("xvlm_vqa_generation_base_768", Path("vqa.th"))
    write_bert(Path("bert"))
    assert main(["convert", "vqa.th", "weights", "--tokenizer", "./bert"]) == 0
    assert main(["evaluate", "weights", "--recipe", "finetune/vqa-base"]) == 0
    file = Path("weights/evaluation-vqa-base-vqa-predictions-en.json")
    assert {each["answer"] for each in json.loads(file.read_text())} <= set(ANSWERS)
